-- How much two clusterings agree, over the items that both hold
select *
from cluster_agreement(
    cast(:run_a as integer), cast(:run_b as integer),
    cast(:level_a as integer), cast(:level_b as integer)
)
