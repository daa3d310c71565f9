-- How often a run could not do something, by what it was doing
select stage, count(*) as errors, max(message) as message
from item_errors
where run_id = :run
group by stage
order by errors desc, stage
