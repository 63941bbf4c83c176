"""Metamath files: what the parser reads, and what it refuses."""

import re

import pytest

from ctd.data.readers import metamath

RULE = "#" * 79
SECTION = "#*" * 39 + "#"
SMALL = f"""$( tiny.mm - Version of today $)
$( This work is PUBLIC DOMAIN. $)
$( Notes that a slice leaves out. $)
$(
{RULE}
      LOGIC
{RULE}
$)
$( Declare $) $c ( ) -> wff |- $. $v ph ps $.
wph $f wff ph $.  wps $f wff ps $.
wi $a wff ( ph -> ps ) $.
$(
{SECTION}
      Rules of
      inference
{SECTION}
  Prose below the heading.
$)
${{
  min $e |- ph $.  maj $e |- ( ph -> ps ) $.
  $( Modus ponens,
     see ~ syl .  Says ` ( ph -> ps ) ` .  (Contributed by NM, 5-Aug-1993.)
     (Revised by A (B) C, 1-Jan-2000.)  (New usage is discouraged.) $)
  ax-mp $a |- ps $.
$}}
$( Simplification. $)
ax-1 $a |- ( ph -> ( ps -> ph ) ) $.
$( $j a note for another program $)
${{ a1i.1 $e |- ph $.
  $( Introduce an antecedent. $)
  a1i $p |- ( ps $( a comment inside $) -> ph ) $= ( wi ax-1 $( and inside a proof $) ax-mp ) ABADCABEF $.
$}}
${{ idi.1 $e |- ph $. idi $p |- ph $= ( ) B $. $}}
$(
{RULE}
      MORE
{RULE}
$)
normal $p |- ( ps -> ( ph -> ( ps -> ph ) ) ) $= wph wps wph wi wi wps wph wps ax-1 a1i $.
open $p |- ph $= ( a1i ) A?B $.
"""


def parse(text: str) -> metamath.Database:
    return metamath.parse(text, "tiny.mm")


def test_labels_are_the_provable_assertions_in_file_order():
    assert [a.label for a in parse(SMALL).assertions] == ["ax-mp", "ax-1", "a1i", "idi", "normal", "open"]


def test_premises_of_compressed_and_normal_proofs_leave_out_hypotheses_and_syntax():
    premises = {a.label: a.premises for a in parse(SMALL).assertions}
    assert premises == {"ax-mp": None, "ax-1": None, "a1i": [0, 1], "idi": [], "normal": [1, 2], "open": None}


def test_formula_carries_the_hypotheses_of_its_own_block_only():
    formulas = {a.label: a.formula for a in parse(SMALL).assertions}
    assert formulas["ax-mp"] == "|- ph & |- ( ph -> ps ) => |- ps"
    assert formulas["ax-1"] == "|- ( ph -> ( ps -> ph ) )"
    assert formulas["a1i"] == "|- ph => |- ( ps -> ph )"


def test_only_the_comment_directly_before_describes_a_statement():
    comments = {a.label: a.comment.strip() for a in parse(SMALL).assertions}
    assert comments["ax-1"] == "Simplification."
    assert comments["a1i"] == "Introduce an antecedent."
    assert comments["normal"] == comments["idi"] == ""


def test_sections_hold_only_headings_with_assertions_below():
    database = parse(SMALL)
    sections = [(s.number, s.title, s.parent) for s in database.sections]
    assert sections == [("1", "LOGIC", -1), ("1.1", "Rules of inference", 0), ("2", "MORE", -1)]
    assert [a.section for a in database.assertions] == [1, 1, 1, 1, 2, 2]


def test_what_is_left_out_is_counted():
    skipped = parse(SMALL).skipped
    assert skipped["theorems with an unfinished proof"] == 1
    assert skipped["theorems whose proof uses hypotheses only"] == 1
    assert skipped["axioms and definitions (labels, not documents)"] == 2
    assert skipped["syntax statements (typecode other than |-)"] == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "$( Simplification. $)",
            "$( Simplification.",
            r"line \d+: this comment is not closed by \$\) before another",
        ),
        ("( wi ax-1 $( and inside a proof $) ax-mp )", "( wi ax-1 ax-mp", "the proof of 'a1i' opens"),
        ("( wi ax-1", "( wi ax-9", "the proof of 'a1i' names 'ax-9', which does not stand before it"),
        ("wps ax-1 a1i $.", "wps ax-1 open $.", "proof of 'normal' names 'open', which does not stand before"),
        ("ABADCABEF $.", "ABADCABEF", r"\$p statement 'a1i' is not closed by \$\. before \$\}"),
        (" ABADCABEF", "", "proof of 'a1i' is compressed and must end in letters"),
        ("( ) B $.", "$.", "the proof of 'idi' is empty"),
        ("|- ph $= ( ) B $.", "|- ph $.", r"\$p statement 'idi' needs a formula, \$= and a proof"),
        ("A?B $.", "A?B", r"'open' is never closed by \$\."),
        ("ax-1 $a", "$a", r"expected one label before \$a, got none"),
        ("ax-1 $a", "ax-mp $a", "the label 'ax-mp' is used a second time"),
        ("ax-1 $a", "ax-1 ${", r"expected \$f, \$e, \$a or \$p after 'ax-1', got \$\{"),
        ("$( Simplification. $)", "$[ other.mm $]", "includes another one"),
        ("$( Simplification. $)", "$x", r"\$x has no place outside a statement"),
        ("$( Simplification. $)", "$}", r"\$\} closes a block that was never opened"),
        ("$( Simplification. $)", "${", r"this \$\{ is never closed"),
        ("A?B $.\n", "A?B $. stray\n", "ends after 'stray'"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(old: str, new: str, message: str):
    assert SMALL.count(old) == 1
    with pytest.raises(ValueError, match=message) as caught:
        parse(SMALL.replace(old, new))
    assert str(caught.value).startswith("tiny.mm, line ")
    assert "\n" not in str(caught.value)


def test_the_line_named_is_that_of_the_statement():
    with pytest.raises(ValueError, match="names 'ax-9'") as caught:
        parse(SMALL.replace("( wi ax-1", "( wi ax-9"))
    line = int(re.findall(r"line (\d+)", str(caught.value))[0])
    assert "a1i $p" in SMALL.splitlines()[line - 1]


def test_a_comment_open_at_the_end_is_refused():
    with pytest.raises(ValueError, match=r"line 1: this comment is never closed"):
        parse("$( for ever")


@pytest.mark.parametrize("text", ["", "just some prose\n", "$c a $. x $a wff a $.\n"])
def test_a_file_without_theorems_is_refused(text: str):
    with pytest.raises(ValueError, match=r"(not a Metamath database|belongs to no statement)"):
        parse(text)
