-- The rows of some items in the full-text index, as they are now
insert or replace into items_fts (rowid, content, name, labels)
select id, content, name, labels
from items_text
where id > :after and id <= :last;
