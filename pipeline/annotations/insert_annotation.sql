insert into annotations (item_id, run_id, source, class_id, class_name, x_min, y_min, x_max, y_max,
    polygons_json, is_crowd, mask_json, area)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
