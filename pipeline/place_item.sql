-- An item's place on a map, given by a run that came later.
insert into projection_points (run_id, item_id, x, y, placed_by_run_id)
values (?, ?, ?, ?, ?)
