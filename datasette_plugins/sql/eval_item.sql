-- What an evaluation says of one item, by space, weighting and k
select
    s.name as space, p.weighting, p.k, p.fold,
    p.y_true as truth, p.y_pred as predicted, p.score as share
from cv_predictions p
join spaces s on s.id = p.space_id
where p.item_id = :item and p.run_id = :run
order by s.name, p.weighting, p.k
