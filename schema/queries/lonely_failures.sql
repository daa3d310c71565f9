/* Images on which a detector does worse than on those nearest to them in a space, the worst first */
with known as (
    select item_id, mean_iou_gt as value
    from image_metrics
    where run_id = :detector and mean_iou_gt is not null
)
select
    g.id as item_id,
    round(own.value, 3) as mean_iou_gt,
    round(vote_value(theirs.value, g.distance), 3) as of_neighbours,
    round(own.value - vote_value(theirs.value, g.distance), 3) as difference,
    i.uri
from knn_graph(
    :space, cast(:k as integer), (select json_group_array(item_id) from known)
) g
join known own on own.item_id = g.id
join known theirs on theirs.item_id = g.neighbor_id
join items i on i.id = g.id
group by g.id
order by own.value - vote_value(theirs.value, g.distance), g.id
limit 200
