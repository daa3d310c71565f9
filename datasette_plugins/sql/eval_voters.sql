-- Who votes for an item, the nearest first: the first k do; share is of the weight of these
select
    n.rank,
    n.neighbor_id as id,
    n.distance,
    n.weight,
    n.rank <= cast(:k as integer) as votes,
    iif(
        n.rank <= cast(:k as integer),
        n.weight / sum(n.weight) filter (where n.rank <= cast(:k as integer)) over (),
        null
    ) as share,
    p.y_true as says,
    p.fold,
    i.kind, i.width < 100 as is_tiny, substr(i.content, 1, 160) as text
from evaluation_neighbors(
    cast(:run as integer), :space, cast(:item as integer), :weighting
) n
cross join items i on i.id = n.neighbor_id
left join cv_predictions p
    on p.run_id = :run
    and p.space_id = (select id from spaces where name = :space)
    and p.k = :k
    and p.weighting = :weighting
    and p.item_id = n.neighbor_id
order by n.rank
limit :limit
