-- Some items of each collection to begin with: in the order of their hashes, which is as good as by lot
with recursive
names (collection) as (
    select min(collection) from items
    union all
    select (select min(i.collection) from items i where i.collection > names.collection)
    from names
    where names.collection is not null
    limit 6
)
select i.id, i.kind, i.sha256, i.width < 100 as is_tiny, substr(i.content, 1, 240) as text, i.collection
from names
join items i on i.collection = names.collection
    and i.sha256 <= (select max(first.sha256) from (
        select f.sha256 from items f where f.collection = names.collection order by f.sha256 limit :each
    ) first)
order by i.collection, i.sha256
