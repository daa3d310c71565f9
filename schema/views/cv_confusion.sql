-- How many items of each label were predicted as which, by run, space, k and weighting.
create view cv_confusion as
select p.run_id, p.space_id, p.k, p.weighting, p.y_true, p.y_pred, count(*) as n
from cv_predictions p
join runs r on r.id = p.run_id and json_extract(r.parameters_json, '$.label') is not null
group by p.run_id, p.space_id, p.k, p.weighting, p.y_true, p.y_pred;
