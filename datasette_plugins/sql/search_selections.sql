-- The selections by which a search can be limited, the newest first
select name
from selections
order by id desc
limit :limit
