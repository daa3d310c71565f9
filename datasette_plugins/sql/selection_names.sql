-- The names of selections, the newest first
select name from selections order by id desc limit :limit
