"""roi_groups.py: grammar and precedence against Python's own boolean formulas, and errors that show
the place.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmri2clip.datasets.nsd.voxels import roi_groups

NAMES = (
    "prf-visualrois/V1v",
    "prf-eccrois/ecc4+",
    "lh.floc-faces",
    "streams/5",
    "file:my.roi-2/3",
    "nsdgeneral",
    "and-1",
)
VARIABLES = dict(zip(NAMES, "abcdefg", strict=True))
COMBINED = st.recursive(
    st.sampled_from(NAMES).map(lambda name: [name]),
    lambda inner: st.one_of(
        st.builds(lambda item: ["not", *item], inner),
        st.builds(lambda item: ["(", *item, ")"], inner),
        st.builds(
            lambda one, word, two: [*one, word, *two], inner, st.sampled_from(("and", "or")), inner
        ),
    ),
    max_leaves=12,
)
MEMBERS = st.lists(st.tuples(*[st.booleans()] * len(NAMES)), min_size=1, max_size=8)


@settings(max_examples=300, deadline=None)
@given(tokens=COMBINED, members=MEMBERS, blanks=st.sampled_from((" ", "  ", "\n", "\t ")))
def test_formulas_mean_what_they_mean_in_python(
    tokens: list[str], members: list[tuple[bool, ...]], blanks: str
) -> None:
    """Parentheses only where the formula has them, so the precedence of and, or, not is compared as
    well.
    """
    tree = roi_groups.parse(
        blanks.join(tokens).replace(f"({blanks}", "(").replace(f"{blanks})", ")")
    )
    columns = {name: np.array([row[k] for row in members]) for k, name in enumerate(NAMES)}
    formula = compile(" ".join(VARIABLES.get(token, token) for token in tokens), "formula", "eval")
    expected = [
        bool(eval(formula, dict(zip(VARIABLES.values(), row, strict=True)))) for row in members
    ]
    assert roi_groups.evaluate(tree, columns).tolist() == expected
    assert roi_groups.names(tree) == list(
        dict.fromkeys(token for token in tokens if token in NAMES)
    )


@settings(max_examples=300, deadline=None)
@given(tokens=st.lists(st.sampled_from(("x", "and", "or", "not", "(", ")")), max_size=9))
def test_only_sentences_of_the_grammar_are_accepted(tokens: list[str]) -> None:
    text = " ".join(tokens)
    try:
        compile(text, "formula", "eval")
        is_sentence = (
            "x (" not in text and "( )" not in text and ") (" not in text
        )  # calls, tuples: not our grammar
    except SyntaxError:
        is_sentence = False
    if is_sentence:
        roi_groups.parse(text)
    else:
        with pytest.raises(ValueError, match=r"expected .* at character \d+, found"):
            roi_groups.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'': expected an ROI, 'not' or '(' at character 1, found the end"),
        ("a and", "'a and': expected an ROI, 'not' or '(' at character 6, found the end"),
        ("a b", "expected 'and', 'or' or the end at character 3, found 'b'"),
        ("a & b", "expected 'and', 'or' or the end at character 3, found '&'"),
        ("a AND b", "found 'AND'; ROIs are combined by the words and, or, not and by parentheses"),
        ("(a or b", "expected 'and', 'or' or ')' at character 8, found the end"),
        ("a or b)", "expected 'and', 'or' or the end at character 7, found ')'"),
        ("a and or b", "at character 7, found 'or'"),
        ("(" * 200 + "a", "expected at most 100 levels of 'not' and parentheses"),
        ("not " * 5000 + "a", "expected at most 100 levels of 'not' and parentheses"),
    ],
)
def test_a_syntax_error_shows_its_place(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        roi_groups.parse(text)
    assert message in str(caught.value)


def test_many_alternatives_are_no_depth() -> None:
    text = " or ".join(f"HCP_MMP1/{k}" for k in range(1, 181))
    assert len(roi_groups.names(roi_groups.parse(text))) == 180
    deep = roi_groups.parse("not " * 99 + "x")
    assert roi_groups.evaluate(deep, {"x": np.array([True, False])}).tolist() == [False, True]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("nsdgeneral and not stream/early", "rois.new: ROI 'stream/early' is not in NSD"),
        ("stream/early", "(did you mean streams?)"),
        ("stream/early", "any other file of the roi folder is written file:NAME"),
        ("xh.streams", "ROI 'xh.streams' is not in NSD"),
        ("streams/erly", "has no label 'erly'; choose from early, midventral"),
        ("streams/erly", "(did you mean early?) or the numbers 1 to 7"),
        ("streams/", "has no label ''"),
        ("streams/0", "has no label '0'"),
        ("streams/8", "has no label '8'"),
        ("streams/05", "has no label '05'"),
        ("HCP_MMP1/181", "ROI 'HCP_MMP1' has no label '181'; choose from the numbers 1 to 180"),
        ("MTL/one", "ROI 'MTL' has no label 'one'; choose from the numbers 1 to N"),
        ("thalamus/-1", "has no label '-1'"),
        ("file:", "ROI 'file:': file: takes the name of a file that NSD does not have"),
        ("file:lh.streams", "file: takes the name of a file that NSD does not have"),
        ("file:../../x", "has no label '../x'"),
        ("file:..\\x", "file: takes the name of a file that NSD does not have"),
        ("streams or", "rois.new: 'streams or': expected an ROI"),
    ],
)
def test_a_wrong_name_shows_the_right_ones(entry: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        roi_groups.parse_groups({"low": ["nsdgeneral"], "new": ["streams", entry]})
    assert message in str(caught.value)


def test_right_names_and_empty_groups() -> None:
    entries = [
        "HCP_MMP1/18",
        "corticalsulc/28",
        "rh.MTL/7",
        "lh.thalamus",
        "streams/5",
        "file:fVTC",
        "file:lh.mine/12",
    ]
    assert roi_groups.names(roi_groups.parse_groups({"one": entries})["one"]) == entries
    with pytest.raises(ValueError, match=r"rois\.two is empty; list at least one ROI"):
        roi_groups.parse_groups({"one": ["streams"], "two": []})
