/* Who votes for an item in an evaluation, the nearest first: the first k do */
select
    n.rank,
    n.neighbor_id,
    n.distance,
    p.y_true as says,
    p.fold,
    i.uri,
    substr(i.content, 1, 200) as text
from runs r
join evaluation_neighbors(r.id, :space, cast(:item as integer)) n
join items i on i.id = n.neighbor_id
-- What a voter says is the same for every k and weighting.
left join cv_predictions p
    on p.run_id = :evaluation
    and p.item_id = n.neighbor_id
    and p.space_id = (select id from spaces where name = :space)
    and p.k = (select k from cv_metrics where run_id = :evaluation order by id limit 1)
    and p.weighting = (select weighting from cv_metrics where run_id = :evaluation order by id limit 1)
where r.id = :evaluation
order by n.rank
