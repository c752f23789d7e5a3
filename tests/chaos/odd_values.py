"""Values of every type, names and actions that are odd: what `odd_schemas` draws from."""

from __future__ import annotations

LONG = "repeat(md5('x'), 300)"

# Values of each type, among them such that are equal and written otherwise.
VALUES: dict[str, tuple[str, ...]] = {
    "int2": ("0", "1", "'-1'", "2", "32767"),
    "int4": ("0", "1", "2", "3", "'-1'", "2147483647"),
    "int8": ("0", "1", "2", "4294967297", "'-9223372036854775808'"),
    "numeric": ("0", "0.0", "1.0", "1.00", "'-0.5'", "'NaN'", "'Infinity'", "1e30", "0.000001"),
    "numeric(8,2)": ("0", "1.5", "'-99999.99'", "'NaN'", "7"),
    "text": ("''", "'a'", "'A'", "'ä'", "'a '", "E'a\\nb\\tc\\\\'", "E'\\\\N'", "'NULL'", "'{a}'", LONG),
    'text collate "C"': ("'a'", "'A'", "'ä'", "''"),
    'text collate "POSIX"': ("'a'", "'A'", "'ä'", "''"),
    'text collate "loose"': ("'a'", "'A'", "'b'", "'ä'", "''"),
    "varchar(12)": ("'a'", "'b '", "''", "E'\\\\.'", "'123456789012'"),
    "char(6)": ("'a'", "'a   '", "''", "'abcdef'"),
    "name": ("'a'", "'pg_class'"),
    '"char"': ("'a'", "''"),
    "bool": ("true", "false"),
    "date": ("'2026-01-01'", "'infinity'", "'0044-03-15 BC'"),
    "timestamptz": ("'2026-03-29 02:30:00+01'", "'2026-03-29 01:30:00+00'", "'infinity'", "'294276-12-31 00:00+00'"),
    "timestamp": ("'2026-03-29 02:30:00.000001'", "'-infinity'", "'4713-01-02 00:00 BC'"),
    "time": ("'24:00'", "'00:00'"),
    "timetz": ("'12:00+01'", "'11:00+00'"),
    "interval": ("'1 day'", "'24 hours'", "'1 mon -1 day +00:00:00.000001'", "'0'"),
    "uuid": ("'00000000-0000-0000-0000-000000000000'", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"),
    "bytea": (r"'\x'", r"'\x00ff'", "decode(repeat('00ff5c', 2000), 'hex')"),
    "jsonb": ("'{}'", "'{\"a\": 1.0}'", "'{\"a\": 1.00}'", "'null'", '\'["\\\\u00e4", "\\\\n"]\''),
    "json": ("'{}'", "'{\"a\":1}'", '\'{"a": 1, "a": 2}\''),
    "float8": ("0", "'-0'", "'NaN'", "0.1", "0.30000000000000004", "1e308", "5e-324"),
    "float4": ("0", "'-0'", "0.1", "3.4e38"),
    "inet": ("'10.0.0.1'", "'10.0.0.0/8'", "'::1'"),
    "cidr": ("'10.0.0.0/8'", "'::/0'"),
    "macaddr": ("'08:00:2b:01:02:03'",),
    "int4range": ("'empty'", "'[1,3)'", "'[2,5]'", "'(,)'", "'[7,8)'"),
    "tstzrange": ("'[2026-01-01 00:00+00,)'", "'empty'"),
    "int4multirange": ("'{}'", "'{[1,2],[5,6)}'"),
    "text[]": ("'{}'", """'{a,NULL,"NULL",""}'""", "'[2:3]={a,b}'", "'{{a,b},{c,d}}'", "'{a,b}'"),
    "int4[]": ("'{}'", "'{1,NULL}'", "'[0:1]={1,2}'"),
    "numeric[]": ("'{1.0,1.00}'", "'{1,1}'"),
    "mood": ("'low'", "'high'", "'It''s \"odd\"'"),
    "mood[]": ("'{low,high}'",),
    "posint": ("1", "2", "3"),
    "word": ("''", "'a'", "'A'"),
    "pair": ("'(1,x)'", "'(,)'", """'(2,"a ""quoted"", one")'"""),
    "pair[]": ("'{}'", """'{"(1,x)","(,)"}'"""),
    "bit(4)": ("B'0101'", "B'0000'"),
    "varbit": ("B''", "B'1'", "B'10'"),
    "tsvector": ("'a:1 b:2A'", "''"),
    "point": ("'(0,0)'", "'(-0,1e300)'"),
    "box": ("'(1,1),(0,0)'",),
    "money": ("'1.50'", "'-0.01'"),
    "oid": ("0", "4294967295"),
    "pg_lsn": ("'0/0'", "'16/B374D848'"),
    "jsonpath": ("'$.a'",),
}
COLLATED = ('text collate "C"', 'text collate "POSIX"')
KEYS = (
    *("int4", "int8", "int2", "text", "numeric", "uuid", "varchar(12)", "char(6)", "date", "timestamptz", "bytea"),
    *("mood", "posint", "inet", "int4range", "float8", "jsonb", "name", "text[]", "interval", "timetz", "numeric[]"),
    *(
        'text collate "loose"',
        'text collate "POSIX"',
        "bool",
        "varbit",
        "pair",
        "tsvector",
        "money",
        "int4multirange",
        "word",
    ),
)
# To which types a migration widens, and a value there that the old type cannot hold.
WIDER = {
    "int2": (("int4", "70000"), ("int8", "5000000000"), ("numeric", "0.5")),
    "int4": (("int8", "5000000000"), ("numeric", "0.5")),
    "varchar(12)": (("text", LONG), ("varchar(40)", "'a text that is too long'")),
    "char(6)": (("char(9)", "'123456789'"), ("text", LONG)),
    "numeric(8,2)": (("numeric(14,4)", "1234567.8901"), ("numeric", "1e30")),
    "float4": (("float8", "1e200"),),
    "date": (("timestamp", "'2026-01-01 12:00'"),),
    "name": (("text", LONG),),
    "posint": (("int4", "0"),),
    "word": (("text", "'forbidden'"),),
    "mood": (("text", "'dull'"),),
    "uuid": (("text", "'none'"),),
    "inet": (("text", "'nowhere'"),),
    "cidr": (("inet", "'10.0.0.1/8'"),),
    "pair": (("text", "'(1'"),),
    "money": (("numeric", "0.001"),),
    "bit(4)": (("varbit", "B'10101'"),),
    "int4[]": (("int8[]", "'{5000000000}'"),),
    "timestamp": (("timestamptz", ""),),
}
# To which a migration narrows, where the rows allow it: the old type holds whatever the new one does.
NARROWER = {
    "int8": ("int4", "int2"),
    "int4": ("int2",),
    "text": ("varchar(12)", "varchar(300)"),
    "varchar(12)": ("varchar(5)",),
    "numeric": ("int4",),
    "varbit": ("bit(1)",),
    "float8": ("float4",),
}
NAMES = ("plain", "Upper", "with space", 'qu"ote', "per%cent", "select", "üml", "new", "old", "key", "op", "a.b", "t")
ACTIONS = (
    *("", " on delete cascade", " on delete set null", " on update cascade", " on delete set default"),
    " on delete cascade on update cascade",
)
LATE = ("", "", " deferrable initially deferred", " deferrable")
