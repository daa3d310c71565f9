/* Items whose nearest neighbours vote for another label than their own */
select
    g.id as item_id,
    own.value as label,
    vote(theirs.value, g.distance) as voted,
    vote_share(theirs.value, g.distance) as share_of_votes,
    min(g.distance) as nearest_distance
from knn_graph(:space, cast(:k as integer)) g
join item_labels own on own.item_id = g.id and own.name = :label
join item_labels theirs on theirs.item_id = g.neighbor_id and theirs.name = :label
group by g.id, own.value
having voted <> own.value
order by share_of_votes desc, g.id
