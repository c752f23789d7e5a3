-- A database with everything that a backup's verifier has once called different although nothing was.
create schema "Odd ""schema""";
create type mood as enum ('sad', 'ok', 'it''s');
create domain positive as integer check (value > 0);
create type pair as (a int, b text);
create type span as range (subtype = numeric);

create table plain (
    id bigint generated always as identity primary key,
    name varchar(40) not null default 'x' check (name in ('x', 'y', 'z') or length(name) > 3),
    kind mood, size positive, both_of pair, period span,
    amount numeric, ratio double precision, doc jsonb, raw bytea, tags text[], at timestamptz default now(),
    twice numeric generated always as (amount * 2) stored
);
insert into plain (name, kind, size, both_of, period, amount, ratio, doc, raw, tags)
select 'name ' || n, (array['sad', 'ok', 'it''s'])[n % 3 + 1]::mood, n, row(n, ('b' || n)::text)::pair, span(n::numeric, (n + 1)::numeric), n / 7.0, n / 3.0,
       jsonb_build_object('n', n), decode(md5(n::text), 'hex'), array['a', null, n::text]
from generate_series(1, 300) as n;
alter table plain drop column raw;
alter table plain add column late text default 'late';

create table "Odd ""schema"""."Table with a very odd name, %s and {}" ("safepoint_whole" int, "t" text, "ONE" int);
insert into "Odd ""schema"""."Table with a very odd name, %s and {}" values (1, 'a', 2), (1, 'a', 2), (null, '', null);
create table no_columns ();
insert into no_columns default values;
insert into no_columns default values;
create unlogged table unlogged_one (x int);
insert into unlogged_one values (1), (2);

create table measured (at date not null, value numeric(10, 3)) partition by range (at);
create table measured_old partition of measured for values from (minvalue) to ('2025-01-01');
create table measured_new partition of measured for values from ('2025-01-01') to (maxvalue) partition by list (value);
create table measured_rest partition of measured_new default;
insert into measured select date '2024-06-01' + n, n / 3.0 from generate_series(1, 400) as n;
create index on measured (at);
alter table plain add column child_of bigint references plain deferrable;
create table parent (a int primary key);
create table child (b int) inherits (parent);
insert into parent values (1);
insert into child values (2, 3);
alter table parent add late text; -- behind the child's own column: no restore keeps it there
update child set late = 'l';

create view names as select p.name, count(*) as many from plain p where p.name like 'name%' group by p.name having count(*) > 0;
create materialized view totals as select kind, sum(amount) as total from plain group by kind;
create materialized view stale as select count(*) as rows from plain;
create materialized view never_filled as select 1 as one with no data;
insert into plain (name, amount) values ('later', -0.0);

create function double_it(x int) returns int language sql immutable as $body$ select x * 2 $body$;
create function stamp() returns trigger language plpgsql as $body$ begin new.late := 'stamped'; return new; end $body$;
create procedure nothing() language plpgsql as $body$ begin null; end $body$;
create aggregate product(int) (sfunc = int4mul, stype = int, initcond = '1');
create trigger stamped before update on plain for each row when (new.amount > 5) execute function stamp();
create index plain_expression on plain (lower(name), double_it(size)) where amount > 3 and kind = 'ok';
create statistics plain_statistics (dependencies) on kind, size from plain;
create sequence odd_sequence start 7 increment by -2 minvalue -100 maxvalue 10 cycle;
select nextval('odd_sequence'), nextval('odd_sequence');
create sequence unused_sequence;

alter table plain enable row level security;
create policy only_ok on plain for select to public using (kind = 'ok' or name = any (array['a', 'b']));
create rule no_delete as on delete to unlogged_one do instead nothing;
comment on table plain is 'it''s a table';
comment on column plain.name is 'with a comment';
comment on function double_it(int) is 'doubles';
comment on constraint plain_pkey on plain is 'the key';
create publication everything for table plain where (id > 1);
select lo_from_bytea(0, 'first'), lo_from_bytea(0, decode(repeat('00', 5000) || 'ff' || repeat('00', 3000), 'hex'));
alter default privileges in schema public grant select on tables to public;
