-- How many of its nearest neighbours each item has in both spaces, with some of the items
with overlap as materialized (
    select id, shared, jaccard, row_number() over (partition by shared order by id) as place
    from space_overlap(:space_a, :space_b, cast(:k as integer))
)
select
    o.shared,
    count(*) as items,
    1.0 * count(*) / sum(count(*)) over () as share,
    max(o.jaccard) as jaccard,
    json_group_array(json_object(
        'id', i.id, 'kind', i.kind, 'sha256', i.sha256, 'is_tiny', i.width < 100,
        'text', substr(i.content, 1, 80)
    )) filter (where i.id is not null) as some_json,
    sum(count(*)) over () as all_items,
    1.0 * sum(sum(o.shared)) over () / sum(count(*)) over () as mean_shared,
    sum(sum(o.jaccard)) over () / sum(count(*)) over () as mean_jaccard
from overlap o
left join items i on i.id = o.id and o.place <= 12
group by o.shared
order by o.shared
