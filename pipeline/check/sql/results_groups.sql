-- groups within folds
-- of folds
-- Items of one group share a fold: apart, one would tell what the other is.
select 'group ' || group_key || ' of run ' || run_id || ' is in ' || count(distinct fold) || ' folds', run_id
from folds
where group_key is not null
group by run_id, group_key
having count(distinct fold) > 1
