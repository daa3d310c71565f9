-- Items whose row in the full-text index is not what it should be: missing, another, or of no item
select ifnull(t.id, f.rowid) as item_id
from items_text t
full join items_fts f on f.rowid = t.id
where t.id is null or f.rowid is null
   or t.content is not f.content or t.name is not f.name or t.labels is not f.labels
limit 1000;
