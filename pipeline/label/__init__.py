"""Names for clusters: by keywords, or by a language model; and how well each name tells its members."""

from nearsql.pipeline.label.by_model import Asking
from nearsql.pipeline.label.run import LabelResult, label_clusters, questions, recompute

__all__ = ["Asking", "LabelResult", "label_clusters", "questions", "recompute"]
