-- How many runs there are of each kind and status
select kind, status, count(*) as runs
from runs
group by kind, status
order by kind, status
