-- How dense a cluster is at its heart: with it, items that are assigned afterwards have a probability.

alter table clusters add column max_lambda real;
