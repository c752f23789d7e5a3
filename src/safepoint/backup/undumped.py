"""What a database may have that is in no dump, and so in no copy. It is told by notes: no other dump would have it.

pg_dump leaves to CREATE EXTENSION all that belongs to an extension, and to initdb what is PostgreSQL's own, with
whatever somebody made in its schemas. Of what was made of these afterwards it has grants, and the rows of tables that
the extension names for it
(https://www.postgresql.org/docs/current/extend-extensions.html#EXTEND-EXTENSIONS-CONFIG-TABLES). What an extension
makes by itself stands in a copy as well, so the two are compared. Subscriptions are in a dump, but in no copy: it would
call their publishers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from psycopg import sql

from safepoint.backup.belonging import SCHEMA_OF, grants, lasting, misplaced
from safepoint.backup.members import MEMBERS, is_member
from safepoint.backup.particulars import MADE_ALONG, UNDUMPED_COMMENT
from safepoint.backup.unshown import value_of
from safepoint.postgres.connections import Connection

KIND: Final = "in no dump"
"""Of a fingerprint's structure."""

_SHOWN = 20
_CLASS = "pg_class c join pg_namespace n on n.oid = c.relnamespace"
_NAME = "format('%I.%I', n.nspname, c.relname)"
_OF_EXTENSION = """exists (
    select from pg_depend e where e.classid = 'pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')
"""

_TABLES: Final = f"""
    select n.nspname, c.relname, {_NAME} from {_CLASS}
    join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
    join pg_extension e on e.oid = d.refobjid
    where c.relkind = 'r' and c.relpersistence <> 't' and pg_relation_size(c.oid) > 0
      and not c.oid = any (coalesce(e.extconfig, '{{}}'))
      and has_table_privilege(c.oid, 'select') and not row_security_active(c.oid)
"""

_ON_EXTENSIONS = f"""
    select format('index %I.%I', n.nspname, x.relname), pg_get_indexdef(x.oid)
    from pg_index i join pg_class x on x.oid = i.indexrelid join {_CLASS} on c.oid = i.indrelid where {_OF_EXTENSION}
    union all
    select format('constraint %I on %s', k.conname, {_NAME}), pg_get_constraintdef(k.oid)
    from pg_constraint k join {_CLASS} on c.oid = k.conrelid where {_OF_EXTENSION} and k.contype not in ('n', 't')
    union all
    select format('trigger %I on %s', t.tgname, {_NAME}), pg_get_triggerdef(t.oid) || ' enabled ' || t.tgenabled::text
    from pg_trigger t join {_CLASS} on c.oid = t.tgrelid where {_OF_EXTENSION} and not t.tgisinternal
    union all
    select format('rule %I on %s', r.rulename, {_NAME}), pg_get_ruledef(r.oid)
    from pg_rewrite r join {_CLASS} on c.oid = r.ev_class where {_OF_EXTENSION} and r.rulename <> '_RETURN'
"""

# And of what PostgreSQL makes along with something else.
_COMMENTS = f"""
    select 'comment on ' || concat_ws(' ', o.type, o.identity), d.description
    from pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) o
    where d.objoid >= 16384 and d.classoid <> 'pg_extension'::regclass and (
        {UNDUMPED_COMMENT}
        or exists (select from pg_depend e where e.classid = d.classoid and e.objid = d.objoid and e.deptype = 'e'))
"""


def _granted(catalog: str, acl: str, owner: str, kind: str, which: str, initially: str) -> str:
    now = grants(f"x.{acl}", kind, f"x.{owner}")
    return f"""
        select 'grants of ' || concat_ws(' ', o.type, o.identity), coalesce({now}, 'none')
        from {catalog} x, pg_identify_object('{catalog}'::regclass, x.oid, 0) o
        where x.oid < 16384 and {which} and x.{acl} is not null and {now} is distinct from '{initially}'
    """


_OF_INFORMATION = "x.relnamespace = 'information_schema'::regnamespace"
# ALTER ROLE ALL SET is of the whole server, and pg_dumpall leaves it out.
_EVERYBODY = """
    select 'setting of all roles ' || split_part(item, '=', 1), substr(item, strpos(item, '=') + 1)
    from pg_db_role_setting s, unnest(s.setconfig) item where s.setdatabase = 0 and s.setrole = 0
"""

# GRANT SET ON PARAMETER ... TO PUBLIC: of the whole server as well.
_PARAMETERS = """
    select 'grants to public on parameter ' || p.parname, string_agg(lower(a.privilege_type), ', ')
    from pg_parameter_acl p, aclexplode(p.paracl) a where a.grantee = 0 group by 1
"""
SINCE_PARAMETERS: Final = 150000

_DATABASE = """
    select 'rights of the database''s owner', 'without ' || string_agg(lower(a.privilege_type), ', ')
    from pg_database d, aclexplode(acldefault('d', d.datdba)) a
    where d.datname = current_database() and d.datacl is not null and a.grantee = d.datdba and not exists (
        select from aclexplode(d.datacl) g where g.grantee = a.grantee and g.privilege_type = a.privilege_type)
    having count(*) > 0
"""

# ALTER TABLE ... DISABLE TRIGGER ALL: the triggers that a foreign key is made of.
_KEYS = f"""
    select 'foreign keys on ' || {_NAME}, string_agg(distinct 'enabled ' || t.tgenabled::text, ', ')
    from pg_trigger t join {_CLASS} on c.oid = t.tgrelid join pg_constraint k on k.oid = t.tgconstraint
    where t.tgisinternal and t.tgenabled <> 'O' and k.contype = 'f' and {lasting("c.relnamespace")} group by 1
"""

# Collations are those of the machine (pg_import_system_collations); the type of an array or a table goes with it.
_SAID_WITH_ANOTHER = {
    "pg_class": "x.relkind not in ('r', 'p', 'v', 'm', 'f', 'S')",
    "pg_collation": "true",
    "pg_type": "x.typtype not in ('e', 'd', 'r', 'b') or x.typelem <> 0",
}
_IN_CATALOGUE = " union all ".join(
    f"""
    select concat_ws(' ', o.type, o.identity), 'made there'
    from {catalog} x, pg_identify_object('{catalog}'::regclass, x.oid, 0) o
    where {misplaced(catalog, "x")} and not ({_SAID_WITH_ANOTHER.get(catalog, "false")})
      and not exists (select from pg_depend d where d.classid = '{catalog}'::regclass and d.objid = x.oid
                      and d.deptype = 'i')
    """
    for catalog in SCHEMA_OF
)

# ALTER OPERATOR FAMILY ... ADD, of a family that is in no dump. What an operator class brought goes with that.
_MEMBERS = """
    select o.identity, 'added'
    from (select 'pg_amop'::regclass as catalogue, oid, amopfamily as family from pg_amop
          union all select 'pg_amproc'::regclass, oid, amprocfamily from pg_amproc) m
    join pg_opfamily f on f.oid = m.family, pg_identify_object(m.catalogue, m.oid, 0) o
    where m.oid >= 16384
      and (f.oid < 16384 or exists (select from pg_depend e where e.classid = 'pg_opfamily'::regclass
                                    and e.objid = f.oid and e.deptype = 'e'))
      and not exists (select from pg_depend c where c.classid = m.catalogue and c.objid = m.oid
                      and c.refclassid = 'pg_opclass'::regclass)
"""

_SUBSCRIPTIONS = """
    select format('subscription %I', s.subname), concat_ws(' ', case when not s.subenabled then 'disabled' end, 'to',
                                                           array_to_string(s.subpublications, ', '))
    from pg_subscription s where s.subdbid = (select oid from pg_database where datname = current_database())
"""

# DETACH PARTITION CONCURRENTLY that was ended between its two transactions: a restore attaches it again.
_DETACHED = f"""
    select 'detachment of ' || {_NAME}, 'from ' || h.inhparent::regclass
    from pg_inherits h join {_CLASS} on c.oid = h.inhrelid where (to_jsonb(h) ->> 'inhdetachpending')::bool
"""

# ALTER TABLE child VALIDATE CONSTRAINT, of one that is its parent's: a restore makes it as that one is.
_VALIDATED = f"""
    select format('validation of constraint %I on %s', k.conname, {_NAME}), 'not its parent''s'
    from pg_constraint k join {_CLASS} on c.oid = k.conrelid
    where k.contype = 'c' and not k.conislocal and k.convalidated and not c.relispartition
      and exists (select from pg_inherits h join pg_constraint p on p.conrelid = h.inhparent and p.conname = k.conname
                  where h.inhrelid = c.oid and p.contype = 'c' and not p.convalidated)
"""

# Of a range's own functions, which come with it.
_MADE_ALONG = f"""
    select 'grants of function ' || p.oid::regprocedure, coalesce({grants("p.proacl", "f", "p.proowner")}, 'none')
    from pg_proc p where p.proacl is not null and p.oid >= 16384 and {MADE_ALONG.format(oid="p.oid")}
      and {grants("p.proacl", "f", "p.proowner")} is distinct from 'public=execute'
"""

_QUERIES: Final = (
    _ON_EXTENSIONS,
    _COMMENTS,
    _granted("pg_class", "relacl", "relowner", "r", _OF_INFORMATION, "public=select"),
    _granted("pg_namespace", "nspacl", "nspowner", "n", "x.nspname = 'information_schema'", "public=usage"),
    _granted("pg_language", "lanacl", "lanowner", "l", "not x.lanispl", "public=usage"),
    _EVERYBODY,
    _DATABASE,
    _KEYS,
    _IN_CATALOGUE,
    _MEMBERS,
    _SUBSCRIPTIONS,
    _DETACHED,
    _VALIDATED,
    _MADE_ALONG,
)


def read(connection: Connection, version: int) -> dict[str, str]:
    """What there is of it, by name. The connection's search_path must be pg_catalog.

    Args:
        version: the format of the fingerprint that it is for.
    """
    queries = (*_QUERIES, *([_PARAMETERS] if connection.info.server_version >= SINCE_PARAMETERS else ()))
    queries += (MEMBERS,) if version > 4 else ()
    found = {str(name): str(text) for query in queries for name, text in connection.execute(query.encode())}
    for schema, table, name in connection.execute(_TABLES.encode()).fetchall():
        count = sql.SQL("select count(*)::text from only {}").format(sql.Identifier(schema, table))
        found |= {f"rows of an extension's table {name}": str(row[0]) for row in connection.execute(count)}
    return dict(sorted(found.items()))


def lost(ours: Mapping[str, str], theirs: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence with what a copy lacks of it, for who restores it; or nothing. Pure."""
    names = [name for name, text in ours.items() if theirs.get(name) != text and not is_member(text)]
    if not names:
        return ()
    texts = {name: " ".join(str(value_of(name, ours[name])).split())[:60] for name in names[:_SHOWN]}
    shown = [f"{name} ({text})" for name, text in texts.items()]
    shown += [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return (f"in no dump, and so not in the copy: {'; '.join(shown)}. Keep by hand what you need of it",)
