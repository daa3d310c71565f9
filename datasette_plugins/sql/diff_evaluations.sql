-- Which of two evaluations is better, by each space, k and weighting
select *
from evaluation_agreement(
    cast(:run_a as integer), cast(:run_b as integer),
    cast(nullif(:k, '') as integer), nullif(:weighting, ''), nullif(:space, ''),
    cast(nullif(:other_k, '') as integer), nullif(:other_weighting, ''), nullif(:other_space, '')
)
