-- How the votes for an item come out: the weight behind each label
select
    p.y_true as label,
    count(*) as voters,
    sum(n.weight) as weight,
    sum(n.weight) / sum(sum(n.weight)) over () as share
from evaluation_neighbors(
    cast(:run as integer), :space, cast(:item as integer), :weighting
) n
-- In this order: the other way round, the voters would be read once for each prediction.
cross join cv_predictions p
    on p.run_id = :run
    and p.space_id = (select id from spaces where name = :space)
    and p.k = :k
    and p.weighting = :weighting
    and p.item_id = n.neighbor_id
where n.rank <= cast(:k as integer) and n.weight is not null
group by p.y_true
order by weight desc, voters desc, label
