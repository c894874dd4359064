"""What predicted tokens are compared with, by stream; a file without torch, for stages that only
look names up.
"""

TOKEN_TARGETS = {
    "fused": "semantic_tokens_ITD",
    "semantic": "semantic_tokens_ITD",
    "projected": "semantic_tokens_ITD",
    "detail": "detail_tokens_ITD|detail_tokens_ITW",
    "text": "text_tokens_IUD",
}
"""Arrays of the clip file ('|': the first that it has). A stream of fewer tokens than its target is
compared with the target's first ones.
"""
SEMANTIC_STREAMS = tuple(
    name for name, target in TOKEN_TARGETS.items() if target == TOKEN_TARGETS["semantic"]
)
