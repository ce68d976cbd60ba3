"""What some settings of retrieval may be called; without numpy, for they are choices of options."""

# How answers with the same score are counted: by expectation, or as the authors' code does too.
TIES = ("expected", "authors")
# Ways to re-rank against hubs, and how figures are labelled that were made so.
RERANKS = {
    "qbnorm": "re-ranked by QB-Norm with a bank of training queries: not the plain figures",
    "dual-softmax": "re-ranked by dual softmax over all queries of this split at once: "
    "not possible for a single query, not comparable with plain figures",
}
# Text to video, and video to text; the first one is meant where none is named.
DIRECTIONS = ("t2v", "v2t")
# What the windows of a gallery are written as.
GALLERY_FORMS = ("faiss", "faiss-ivfpq", "parquet")
