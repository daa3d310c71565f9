-- A JSON column that may be empty says so: up to SQLite 3.44, json_valid(NULL) is 0, and such a library
-- refused every row without a mask or a polygon.
--
-- Only what the CHECK says changes, and no row. SQLite has no ALTER for that, and rewriting tables of
-- millions of rows would take minutes; its documentation names this way for it (ALTER TABLE, section 7).

pragma writable_schema = on;

update sqlite_schema
set sql = replace(sql, 'check (json_valid(mask_json))', 'check (mask_json is null or json_valid(mask_json))')
where type = 'table' and name in ('annotations', 'predictions');

update sqlite_schema
set sql = replace(sql, 'check (json_valid(polygons_json))', 'check (polygons_json is null or json_valid(polygons_json))')
where type = 'table' and name = 'annotations';

update sqlite_schema
set sql = replace(sql, 'check (json_valid(schema_json))', 'check (schema_json is null or json_valid(schema_json))')
where type = 'table' and name = 'llm_responses';

update sqlite_schema
set sql = replace(replace(replace(sql,
    'check (json_valid(shown_item_ids_json))', 'check (shown_item_ids_json is null or json_valid(shown_item_ids_json))'),
    'check (json_valid(keywords_json))', 'check (keywords_json is null or json_valid(keywords_json))'),
    'check (json_valid(held_out_json))', 'check (held_out_json is null or json_valid(held_out_json))')
where type = 'table' and name = 'cluster_labels';

update sqlite_schema
set sql = replace(sql, 'check (json_valid(polygon_json))', 'check (polygon_json is null or json_valid(polygon_json))')
where type = 'table' and name = 'selections';

update sqlite_schema
set sql = replace(sql, 'check (json_valid(recall_json))', 'check (recall_json is null or json_valid(recall_json))')
where type = 'table' and name = 'vector_indexes';

pragma writable_schema = reset;

-- Makes every open connection read the schema anew.
create table schema_was_changed (x);
drop table schema_was_changed;
