"""Which series an expression reads, and what an answer about their age is worth."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import promql_parser
import pytest

from starforge_backlog.prometheus.faults import (
    MOST_ANSWER,
    PrometheusFault,
    Reply,
    answer_of,
    transport_fault,
)
from starforge_backlog.prometheus.judgement import judge, one_number, series_of
from starforge_backlog.prometheus.question import SHOWN, Question
from starforge_backlog.prometheus.series import PART, Selector, age_question, selectors
from starforge_backlog.snapshot import Why

SECONDS = timedelta(seconds=1)
NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("42", []),
        ("vector(0)", []),
        ("sum(a)", [("a", None)]),
        ("sum(rate(a_total[90s]))", [("a_total", 90)]),
        ('sum by (q) (a{b="c",d=~"e.*"})', [('a{b="c",d=~"e.*"}', None)]),
        ("a / on (job) b", [("a", None), ("b", None)]),
        ("sum(rate(a[1m])) or vector(0)", [("a", 60)]),
        # Whether the source is alive is asked of now.
        ("a offset 1h", [("a", None)]),
        ("rate(a[5m] offset 1d)", [("a", 300)]),
        ("a @ 1700000000", [("a", None)]),
        # The same series twice: the widest range.
        ("rate(a[1m]) + rate(a[5m]) + a", [("a", 300)]),
        ("max_over_time(sum(rate(a[1m]))[5m:15s])", [("a", 60)]),
        ("histogram_quantile(0.9, sum by (le) (rate(a_bucket[5m])))", [("a_bucket", 300)]),
        ('{"a.b", c="d"}', [('{__name__="a.b",c="d"}', None)]),
        ("time() - min(a)", [("a", None)]),
    ],
)
def test_the_series_of_an_expression(
    expression: str, found: list[tuple[str, float | None]]
) -> None:
    series = selectors(expression)
    assert series is not None
    parts_of = [(s.text, s.range.total_seconds() if s.range else None) for s in series]
    assert parts_of == found


@pytest.mark.parametrize("expression", ["sum(a", "a{b!}", "a offset inf", "a[1e999]"])
def test_what_is_no_promql_has_no_series(expression: str) -> None:
    """Nor what the parser's own assertions end."""
    assert selectors(expression) is None


@pytest.mark.parametrize(
    "expression",
    ["+".join(["a"] * 1024), "(" * 1000 + "a" + ")" * 1000, "sum(" * 400 + "a" + ")" * 400],
    ids=["sum", "brackets", "nested"],
)
def test_the_longest_expression_does_not_stop_the_process(expression: str) -> None:
    """The event loop waits for this: the parser's own walk over it takes minutes."""
    began = time.monotonic()
    series = selectors(expression)
    assert series is not None
    assert [one.text for one in series] == ["a"]
    assert time.monotonic() - began < 30


def test_one_question_for_all_series_that_is_promql_itself() -> None:
    series = selectors("rate(a_total{x='1'}[90s]) / sum(b)")
    assert series is not None
    asked = age_question(series)
    assert selectors(asked) is not None
    for part in ("newest0", "past0", "down0", "newest1", "down1"):
        assert f'"{part}"' in asked
    assert "past1" not in asked


def test_up_itself_is_not_held_against_up() -> None:
    series = selectors("count(up == 1)")
    assert series is not None
    assert "down" not in age_question(series)


def parts_of(**parts: tuple[float, float]) -> list[dict[str, Any]]:
    return [{"metric": {PART: k}, "value": [at, str(v)]} for k, (at, v) in parts.items()]


A, RATE = Selector("a", None), Selector("r", 60 * SECONDS)
STALE = 120 * SECONDS


@pytest.mark.parametrize(
    ("wanted", "answer", "age"),
    [
        ((), [], 0),
        ((A,), parts_of(newest0=(NOW, NOW - 7)), 7),
        # The oldest of the newest.
        ((A, RATE), parts_of(newest0=(NOW, NOW - 7), newest1=(NOW, NOW - 9)), 9),
        # `or`: one of them is enough, if the other never was there.
        ((A, RATE), parts_of(newest0=(NOW, NOW - 7)), 7),
        ((RATE,), parts_of(newest0=(NOW, NOW - 30), past0=(NOW, 3)), 30),
        # A clock that was set back.
        ((A,), parts_of(newest0=(NOW, NOW + 3)), 0),
    ],
)
def test_an_answer_that_counts(
    wanted: tuple[Selector, ...], answer: list[dict[str, Any]], age: float
) -> None:
    assert judge(wanted, answer, stale_after=STALE).age == age * SECONDS


def test_series_that_no_target_reports_are_named() -> None:
    answer = parts_of(newest0=(NOW, NOW), newest1=(NOW, NOW), alone1=(NOW, 2))
    assert judge((A, RATE), answer, stale_after=STALE).without_target == ("r",)


NEWEST = {PART: "newest0"}


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "text",
        {},
        [NOW, "2"],
        [[NOW, "2"]],
        [{"value": [NOW, "2"]}],
        [{"metric": None, "value": [NOW, "2"]}],
        [{"metric": NEWEST, "histogram": [NOW, {}]}],
        [{"metric": NEWEST, "value": None}],
        [{"metric": NEWEST, "value": [NOW]}],
        [{"metric": NEWEST, "value": [NOW, "x"]}],
        [{"metric": NEWEST, "value": [NOW, {}]}],
        # Each of these would be a sample of this moment.
        [{"metric": NEWEST, "value": [NOW, "NaN"]}],
        [{"metric": NEWEST, "value": [NOW, "+Inf"]}],
        [{"metric": NEWEST, "value": [float("nan"), "1"]}],
        [{"metric": NEWEST, "value": [NOW, 10**400]}],
        [{"metric": NEWEST, "value": [NOW, "-1e300"]}],
    ],
)
def test_an_age_of_another_shape_is_no_age(answer: Any) -> None:
    with pytest.raises(PrometheusFault) as fault:
        judge((A,), answer, stale_after=STALE)
    assert fault.value.why is Why.BAD_ANSWER
    assert "correct url" in fault.value.message


@pytest.mark.parametrize(
    ("wanted", "answer", "why"),
    [
        ((A,), [], Why.EMPTY_RESULT),
        ((A,), parts_of(newest0=(NOW, NOW - 121)), Why.STALE),
        ((A, RATE), parts_of(newest0=(NOW, NOW - 1), newest1=(NOW, NOW - 31)), Why.STALE),
        ((RATE,), parts_of(past0=(NOW, 3)), Why.STALE),
        # The other one is alive: still a rate that falls because its source is gone.
        ((A, RATE), parts_of(newest0=(NOW, NOW), past1=(NOW, 3)), Why.STALE),
        ((A,), parts_of(newest0=(NOW, NOW), down0=(NOW, 2)), Why.PARTIAL),
    ],
)
def test_an_answer_that_does_not(
    wanted: tuple[Selector, ...], answer: list[dict[str, Any]], why: Why
) -> None:
    with pytest.raises(PrometheusFault) as fault:
        judge(wanted, answer, stale_after=STALE)
    assert fault.value.why is why


@pytest.mark.parametrize(
    ("result", "why"),
    [
        ([], Why.EMPTY_RESULT),
        ([{"metric": {}, "value": [NOW, "NaN"]}], Why.NOT_A_NUMBER),
        ([{"metric": {}, "value": [NOW, "+Inf"]}], Why.NOT_A_NUMBER),
        ([NOW, "-Inf"], Why.NOT_A_NUMBER),
        ([NOW, "text"], Why.NOT_A_NUMBER),
        ([{"metric": {}, "values": [[NOW, "1"]]}], Why.NOT_A_NUMBER),
        ([{"metric": {}, "histogram": [NOW, {}]}], Why.NOT_A_NUMBER),
        ({}, Why.BAD_ANSWER),
        (None, Why.BAD_ANSWER),
        ("text", Why.BAD_ANSWER),
        ([{"metric": None, "value": [NOW, "1"]}], Why.BAD_ANSWER),
        ([{"metric": {}, "value": None}], Why.NOT_A_NUMBER),
        ([{"metric": {}, "value": [NOW, 10**400]}], Why.NOT_A_NUMBER),
        # Neither a status nor a date could hold it.
        ([NOW, "1e300"], Why.NOT_A_NUMBER),
        ([{"metric": {"a": str(n)}, "value": [NOW, "1"]} for n in range(3)], Why.SEVERAL_SERIES),
    ],
)
def test_no_number(result: Any, why: Why) -> None:
    with pytest.raises(PrometheusFault) as fault:
        one_number(series_of(result), "a")
    assert fault.value.why is why


def test_several_series_are_counted_and_the_fix_is_the_expression_itself() -> None:
    result = [{"metric": {"a": str(n)}, "value": [NOW, "1"]} for n in range(3)]
    with pytest.raises(PrometheusFault, match=r"^3 series .* sum\(foo\)"):
        one_number(series_of(result), "foo")


@pytest.mark.parametrize("result", [[NOW, "7"], [{"metric": {}, "value": [NOW, "7"]}]])
def test_a_number(result: Any) -> None:
    assert one_number(series_of(result), "a") == 7


def test_window_and_length_of_a_question() -> None:
    asked = Question("f", "rate(a[$window]) + " * 20 + "b", 90 * SECONDS, STALE)
    assert "a[90s]" in asked.promql
    assert "$window" not in asked.promql
    assert len(asked.sentence("")) < SHOWN + 10
    assert asked.sentence("x").startswith("f (rate(a[90s])")


ERROR = b'{"status":"error","errorType":"%s","error":"%s"}'


@pytest.mark.parametrize(
    ("status", "body", "why", "says"),
    [
        (400, ERROR % (b"bad_data", b"1:2: parse error: x"), Why.QUERY_ERROR, "parse error: x"),
        (422, ERROR % (b"execution", b"too many samples"), Why.QUERY_ERROR, "too many samples"),
        (503, ERROR % (b"timeout", b"query timed out"), Why.TIMEOUT, "make it cheaper"),
        (500, ERROR % (b"internal", b"disk"), Why.UNREACHABLE, "disk"),
        (503, b"Service Unavailable", Why.UNREACHABLE, "starting"),
        (502, b"<html>Bad Gateway</html>", Why.UNREACHABLE, "502"),
        (429, b"", Why.UNREACHABLE, "refuses more"),
        (
            429,
            ERROR % (b"too_many_requests", b"the request has been rejected: limit 10 per second"),
            Why.UNREACHABLE,
            "limit 10 per second",
        ),
        (401, b"Unauthorized", Why.WRONG_PASSWORD, "Secret"),
        (403, ERROR % (b"forbidden", b"x"), Why.NO_PERMISSION, "right"),
        (404, b"404 page not found", Why.NOT_PROMETHEUS, "path prefix"),
        (400, b"Client sent an HTTP request to an HTTPS server.", Why.TLS_FAILED, "https://"),
        (200, b"<!doctype html><title>Grafana</title>", Why.NOT_PROMETHEUS, "url"),
        (200, b'{"hello": "world"}', Why.NOT_PROMETHEUS, "url"),
        (200, b"[1, 2]", Why.NOT_PROMETHEUS, "url"),
        (200, b'{"a":' + b"[" * 200_000, Why.NOT_PROMETHEUS, "url"),
        (204, b"", Why.NOT_PROMETHEUS, "url"),
        (302, b"", Why.NOT_PROMETHEUS, "login.example"),
        (
            200,
            b'{"status":"success","data":{},"warnings":["store s1 is down"]}',
            Why.PARTIAL,
            "store s1",
        ),
        (
            200,
            b'{"status":"success","data":{},"warnings":"store s1 is down"}',
            Why.PARTIAL,
            "not whole: store s1 is down",
        ),
        (
            200,
            b'{"status":"success","data":{},"warnings":["PromQL info: x","store s1 is down"]}',
            Why.PARTIAL,
            "not whole: store s1 is down",
        ),
        (
            200,
            b'{"status":"success","isPartial":true,"data":{"result":[]}}',
            Why.PARTIAL,
            "storage nodes",
        ),
    ],
)
def test_what_a_server_may_answer(status: int, body: bytes, why: Why, says: str) -> None:
    reply = Reply(status, body, "https://login.example/?token=s3cr3t")
    with pytest.raises(PrometheusFault) as fault:
        answer_of(reply, "prom:9090")
    assert fault.value.why is why
    assert says in fault.value.message
    assert "s3cr3t" not in fault.value.message
    # A limit on queries is on all of them: asking the others as well would only use it up.
    assert fault.value.server_down is (status == 429)


@pytest.mark.parametrize(
    "more",
    [
        '"warnings": []',
        '"warnings": ["PromQL info: metric might not be a counter, name does not end in _total"]',
        '"warnings": "PromQL info: metric might not be a counter"',
        '"infos": ["PromQL info: metric might not be a counter"]',
        '"isPartial": false',
    ],
)
def test_hints_about_an_expression_take_nothing_from_its_answer(more: str) -> None:
    body = f'{{"status": "success", "data": {{}}, {more}}}'.encode()
    assert answer_of(Reply(200, body), "prom:9090")["data"] == {}


ESCAPED = (
    r'jobs{queue=~"etl\\.(a|b)"}',
    r'jobs{queue="say \"hi\""}',
    r'jobs{queue!="a\nb",type!~"\\d+"}',
    "jobs{queue='it\"s'}",
    '{"jobs.waiting","queue name"="a"}',
    '{__name__="jobs",a="1" or b="2"}',
)


@pytest.mark.parametrize("expression", ESCAPED)
def test_a_selector_is_asked_for_as_it_was_written(expression: str) -> None:
    """Its text is put into a question of ours: what it selects must be the same."""
    (selector,) = selectors(f"sum({expression})") or ()
    again = selectors(selector.text)
    assert again is not None
    assert [one.text for one in again] == [selector.text]
    assert _matched(selector.text) == _matched(expression)


def _matched(expression: str) -> list[tuple[str, str, str]]:
    """Name, operator and value of each matcher, as the parser reads them."""
    vector = promql_parser.parse(expression)
    assert isinstance(vector, promql_parser.VectorSelector)
    groups = [vector.matchers.matchers, *vector.matchers.or_matchers]
    return [(one.name, str(one.op), one.value) for group in groups for one in group]


def test_a_long_answer_is_cut() -> None:
    body = ERROR % (b"bad_data", b"x" * 5_000)
    with pytest.raises(PrometheusFault) as fault:
        answer_of(Reply(400, body), "h")
    assert len(fault.value.message) < MOST_ANSWER + 100


def test_what_a_server_says_is_text_that_can_be_stored_and_shown() -> None:
    """No escape of a terminal, no line break, no half of a surrogate pair."""
    with pytest.raises(PrometheusFault) as fault:
        answer_of(Reply(400, ERROR % (b"bad_data", rb"a\nb\u001b[31m\u0000\ud800c")), "h")
    assert fault.value.message.isprintable()
    assert fault.value.message.encode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired", Why.TLS_FAILED),
        ("Hostname mismatch, certificate is not valid for 'a'", Why.TLS_FAILED),
        ("self-signed certificate in certificate chain", Why.TLS_FAILED),
        ("[SSL: WRONG_VERSION_NUMBER]", Why.TLS_FAILED),
        ("('Connection aborted.', BadStatusLine('hello'))", Why.BAD_ANSWER),
        ("Received response with content-encoding: gzip, but failed to decode it", Why.BAD_ANSWER),
        ("('Connection broken: got more than 100 headers')", Why.BAD_ANSWER),
        ("Failed to resolve 'nope' ([Errno -2] Name or service not known)", Why.HOST_UNKNOWN),
        ("[Errno 111] Connection refused", Why.UNREACHABLE),
        ("HTTPConnectionPool(host='prom-tls.x'): Connection refused", Why.UNREACHABLE),
        ("Remote end closed connection without response", Why.UNREACHABLE),
    ],
)
def test_no_answer_at_all(text: str, why: Why) -> None:
    fault = transport_fault(OSError(text), "prom:9090")
    assert (fault.why, fault.server_down) == (why, True)
    assert "prom:9090" in fault.message
