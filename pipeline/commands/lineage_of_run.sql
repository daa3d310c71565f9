select ancestor_run_id, ancestor_kind, relation, depth
from run_lineage where run_id = ? order by depth, ancestor_run_id
