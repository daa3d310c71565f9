-- What this file offers a search: items at all, a full-text index and how it splits texts, a map
select
    exists (select 1 from items) as has_items,
    (select json_extract(value, '$.tokenizer') from metadata
     where key = 'items_fts' and json_valid(value)) as tokenizer,
    exists (select 1 from projection_points) as has_map
