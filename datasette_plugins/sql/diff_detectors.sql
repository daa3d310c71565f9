-- Which of two detector runs is better, by each metric and component of the loss
select *
from detector_agreement(cast(:run_a as integer), cast(:run_b as integer))
