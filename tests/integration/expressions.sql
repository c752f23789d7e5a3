-- Expressions as people write them, one a line: conditions over this table, and queries. See test_honest_definitions.
create type mood as enum ('ok', 'sad', 'it''s');
create type pair as (a int, b text);
create domain short as varchar(20) check (value in ('a', 'b') or (length(value) > 3 and value between 'a' and 'z'));
create domain code as varchar(3);
create table thing (
    id int primary key, n int, big bigint, small smallint, amount numeric(12, 2), ratio float8, name varchar(40),
    text text, letter char(3), flag boolean, mood mood, word short, code code, at timestamptz, day date,
    span interval, tags text[], names varchar(10)[], numbers bigint[], doc jsonb, raw bytea, key uuid, net inet,
    duo pair, "Odd ""col" int, range int4range
);
-- conditions
n between 1 and 9 and n <> 5
n between 1 and 9 and n <> 5 and n <> 6 or flag
flag and n between 1 and 9
flag or n not between 1 and 9
n not between 1 and 9 or flag or big = 3
(flag and n = 1) and (big = 2 and (small = 3 and flag))
(flag or n = 1) or (big = 2 or (small = 3 or flag))
not (flag or n = 1)
not flag or n = 1
n between symmetric 9 and 1 and flag
name in ('a', 'b')
name not in ('a', 'b') and flag
name in ('a')
name = any (array['a', 'b'])
name = any (array['a', 'b']::text[])
name = any ('{a,b}'::varchar[])
text in ('a', name, 'c')
letter in ('a', 'b')
mood in ('ok', 'sad')
mood = 'ok' or mood = any (array['sad', 'it''s']::mood[])
word in ('abcd', 'efgh')
code in ('a', 'b') and code not in ('c', 'd')
big in (1, 2, 3)
big in (1, 2, n)
small in (1, 2, 70000)
amount in (1, 2.5, -3)
ratio in (1, 2.5)
day in ('2026-01-01', current_date)
(n, big) in ((1, 2), (3, 4)) or flag
(n, big) = (1, 2) and flag
(n, big) < (1, 2) and flag
(n, big) is not distinct from (1, 2)
row(n, text)::pair = duo
(duo).a = 1 and (duo).b = 'x'
numbers = array[1, 2]::int[]::bigint[]
numbers && array[n, big]
numbers = '{1,2}' and tags <> '{}'
tags @> array['a', null]
tags && array[name, 'x']::varchar[]::text[]
names && array['a', 'b']::varchar(10)[]
names = array['abc']::varchar(2)[]
tags = array[]::text[]
array[array[name, 'a'], array['b', 'c']]::varchar[]::text[] <> array[array['x', 'y']]::text[]
array[[1, 2], [3, 4]]::bigint[] <> array[array[big, 1]]
tags[1:2] = array['a'] and numbers[1] = 1
n > -1 and n > -(1) and n > -(1::int) and n > - 1::int
amount > -1.5 and amount > -(1.5::numeric) and amount > - (-2) and ratio > -1e10
big > -(3::bigint) and big > -9223372036854775808
- n < 0 and + n > 0 and - (- n) > 0
(n + big) * small > 0
n + big * small > 0
n - (big - small) > 0 and (n - big) - small > 0 and n * (big / 3) % 2 = 1
amount::int > 1 and amount::numeric(14, 3) > 1 and n::text::varchar(3) = 'a'
'x'::varchar(3) = name and 'abcdef'::varchar(3)::text = text and 'ab'::char(1) = letter
name::bytea is null or text::name = 'a'
name || 'x' || text like '%a%' and name not like 'b\%' and text ilike any (array['a', 'b'])
name similar to '(a|b)' or name ~ '^a{1,2}' or name like 'a!%' escape '!'
text collate "C" > 'x' and name collate "C" in ('a', 'b')
coalesce(name, text, 'x') = 'y' and nullif(name, '') is not null and greatest(n, big, 3) > 1
case when flag then n when n = 1 and flag and big = 2 then 3 else 0 end > 1
case name when 'a' then 1 when 'b' then 2 end = 1
case mood when 'ok' then name else text end = 'a'
flag is true and flag is not false and (n = 1) is unknown is false and flag = true
n is distinct from 3 and text is not distinct from 'x'
at > now() - interval '1 day' and at < 'infinity' and day > date '2026-01-01' - 7
span > interval '1' year and span = '1 mon 2 days' and span <> interval '3' day and span > interval '1:30' minute to second
at at time zone 'UTC' > '2026-01-01' and extract(year from at) > 2000 and date_part('dow', day) = 1
at = '2026-01-01 00:00+02'::timestamptz(3) and day::timestamp(0) > 'epoch'
(day, day + 3) overlaps (date '2026-01-01', interval '3 days')
doc ->> 'a' = 'b' and doc -> 'a' -> 0 = '1' and doc @> '{"a": [1]}' and doc ? 'x' and doc #>> '{a,b}' = 'c'
jsonb_path_exists(doc, '$.a ? (@ > 1)')
raw <> '\x00ff' and key = '00000000-0000-0000-0000-000000000001' and net << '10.0.0.0/8'
substring(text from 1 for 2) = 'ab' and trim(both 'x' from text) <> '' and position('a' in text) > 0
overlay(text placing 'x' from 1) = '' and upper(name) = 'A' and lower(trim(name)) <> ''
round(amount, 1) > 0 and round(ratio) > 0 and amount ^ 2 > 1 and |/ ratio > 1 and @ n > 1
range @> 3 and range && int4range(1, 5) and not isempty(range)
"Odd ""col" > 1 and "Odd ""col" in (1, 2)
n = 1 and text = E'back\\slash' and text <> 'it''s "so"' and text <> '((' and text <> ' AND ('
current_user = 'x' or session_user <> 'y' or current_setting('a.b', true) = 'c'
n & 3 = 1 and n | 4 > 1 and n # 1 = 2 and ~n < 0 and n << 2 > 1
length(name::text) > 0 and char_length(letter) = 3 and octet_length(raw) > 1
text > all (array['a', 'b']) and name <> all ('{a,b}') and n <> all (array[1, 2])
-- queries
select 'x' as a union select 'y' union all select text from thing
select 1 as a, 'x' as b, null as c, -1 as d, 1.5 as e, true as f union select 2, 'y', 'z', -2, -2.5, false
select n as a from thing union (select 1 union select 2 except select '3'::int) intersect select big from thing
select id from thing where exists (select 'x', -1, 1.5, null, 'y'::varchar(3), n::bigint from thing t where t.n = thing.n)
select id from thing where n in (select 1 union select -1) and text in (select 'x' union select name from thing)
select id from thing where n not in (select n from thing where flag) and n = any (select 1) and n > all (select 2)
select id from thing where (n, text) in (select 1, 'x') or tags = array(select 'x' union select text from thing)
select id from thing where text = (select 'x') union select (select 'y')::int4 where false
select id from thing where text = (select 'x' collate "C") union select (values (1))
select id, text from thing union select 1, (select 'x') union select 2, 'a' collate "C" union select 3, ('b')::varchar
select (select -1) as a, (select 'x') as b union select (select 1.5)::int, (select null)
select a.id, b.id as other, a.name from thing a join thing b using (n, big) left join thing c on c.id = a.id and (c.n = 1 or c.flag)
select * from ((select 1 as x) a cross join (select 'x' as y) b) as j (x1, x2)
select * from thing natural join (select id, 'x' as extra from thing) e
select n, count(*) filter (where flag and n between 1 and 2 and big = 3) as c, string_agg(name, ',' order by name desc) as s from thing group by n having count(*) > 1 and sum(big) between 1 and 5 and max(n) = 2 order by 1 desc nulls last limit 3 offset 1
select n, mood, grouping(n) as g from thing group by grouping sets ((n, mood), (n), ()), rollup (flag)
select sum(n) over w as s, rank() over (partition by mood order by n rows between 1 preceding and current row exclude ties) as r from thing window w as (partition by flag order by n, big range between unbounded preceding and unbounded following)
with recursive t (n, path) as (select 1, array['x'] union all select n + 1, path || 'y'::text from t where n < 5) select * from t
with a as materialized (select 'x' as v), b as not materialized (select v, 'y' as w from a) select a.v, b.w from a, b
select distinct on (name, n + 1) name, text || 'x' as label from thing order by name, n + 1, text
select u.v, u.ord, x.* from thing, unnest(tags, array['a']) with ordinality as u (v, w, ord), lateral (select thing.n + 1 as p, 'x' as q) x
select * from generate_series(1, 3) g, json_to_recordset('[]') as r (a int, b text), rows from (unnest(array[1]), unnest(array['x'])) z (p, q)
select * from (values (1, 'a'), (2, 'b'), (-3, null)) v (a, b) union select 1, 'x'
select thing, thing.*::thing as whole, row(thing.*)::thing as r, (thing).n as m, (duo).*, array_agg(thing) over () as all_of from thing
select id from thing tablesample bernoulli (1.5) repeatable (3) for update of thing skip locked
select percentile_cont(0.5) within group (order by ratio) as m, mode() within group (order by mood) as o from thing
select case when text in ('a', 'b') then 'x' else 'y' end as c, name::text as text, n::bigint as int8, 'x'::name from thing
select id from thing where exists (select (select 'x'), (select 'y' from thing limit 1), (select -1), ('z' collate "C"))
select id from thing where case when exists (select 1 union select -1) then true else (select flag union select true limit 1) end
