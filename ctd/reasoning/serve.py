"""A server that speaks the OpenAI protocol (vLLM, llama.cpp and others) in the place of a model loaded here.

Notes: only /v1/completions is asked, so the prompt is the one that a model loaded here would get; the server may
still put a begin token before it, and applies the sampling defaults of its own that the protocol does not name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from ctd.cache import digest
from ctd.reasoning.completions import Completion
from ctd.reasoning.sampling import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NO_KEY = "none"  # the client insists on a key; servers that need none ignore it


class Server:
    """A model behind an OpenAI-compatible server, for `ctd.reasoning.generate.generate`.

    base_url: such as http://localhost:8000/v1; /v1 is added to an address without a path.
    model: as the server calls it.
    api_key: else $CTD_API_KEY, else none; it is never written anywhere.
    timeout: seconds for one answer.
    retries: after 408, 409, 429, 5xx or no connection, waiting longer each time.
    concurrent: prompts asked at once.
    tokenizer: the model's, for callers that cut documents by its tokens; nothing here needs it.
    key: digest of what the outputs depend on, as far as it is known here: the model's name, not the address.
    Raises ValueError for an address or a number out of bounds, ModuleNotFoundError without the `openai` client.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        timeout: float = 600.0,
        retries: int = 5,
        concurrent: int = 8,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise ModuleNotFoundError("asking a server takes the openai client: pip install 'ctd[serve]'") from error
        if timeout <= 0 or retries < 0 or concurrent < 1:
            raise ValueError(
                "timeout must be above 0, retries at least 0 and concurrent at least 1, "
                f"got {timeout}, {retries} and {concurrent}"
            )
        self.base_url = _with_path(base_url)
        self.model, self.timeout, self.retries, self.concurrent = model, timeout, retries, concurrent
        self.tokenizer = tokenizer
        self.key = digest(["server", model])
        self._openai = openai
        self._client = openai.OpenAI(
            base_url=self.base_url,
            api_key=(api_key or os.environ.get("CTD_API_KEY", "")).strip() or NO_KEY,
            timeout=timeout,
            max_retries=retries,
        )

    def __repr__(self) -> str:
        return f"Server({self.base_url!r}, {self.model!r})"

    def complete(self, prompt: str, sampling: Sampling, seed: int) -> Completion:
        """What the server's model writes after the prompt, with log-probabilities where the server gives them.

        seed: of this prompt; the sampling's own is not used. What is given and cannot be laid over the text without
        doubt, token by token, is left out.
        Raises ConnectionError or TimeoutError when no answer comes, PermissionError when the key is refused,
        FileNotFoundError for an unknown model, ValueError for a prompt or setting that is refused, and for an answer
        that is no completion.
        """
        drawn: dict[str, Any] = {"top_p": sampling.top_p, "seed": seed} if sampling.temperature else {}
        if (
            sampling.top_k or sampling.repetition_penalty != 1
        ):  # no setting of the OpenAI API; vLLM and llama.cpp have both
            drawn["extra_body"] = _beyond_openai(sampling)
        if sampling.stop:
            drawn["stop"] = list(sampling.stop)
        try:
            answer: Any = self._client.completions.create(
                model=self.model,
                prompt=prompt,
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                logprobs=1,  # 0, which would do for OpenAI and vLLM, means none to llama.cpp
                **drawn,
            )
            return _completion(answer)
        except self._openai.APIError as error:
            self._refuse(error)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.base_url} did not answer with a completion: is it the address of the API?"
            ) from error

    def _refuse(self, error: Any) -> NoReturn:
        """Say in one line what went wrong, without the key."""
        body = error.body if isinstance(error.body, dict) else {}
        reason = " ".join(str(body.get("message") or error.__cause__ or error).split())
        if self._client.api_key != NO_KEY:
            reason = reason.replace(self._client.api_key, "...")
        reason = reason[:200]
        status = getattr(error, "status_code", None)
        tries = f"asked {self.retries + 1} times"
        if isinstance(error, self._openai.APITimeoutError):
            raise TimeoutError(
                f"{self.base_url} did not answer within {self.timeout:g} s ({tries}): raise timeout or lower concurrent"
            ) from None
        if isinstance(error, self._openai.APIConnectionError):
            raise ConnectionError(
                f"there is no server at {self.base_url} ({tries}: {reason}): start it, or correct base_url"
            ) from None
        if status in (401, 403):
            raise PermissionError(f"{self.base_url} refuses the key ({status}: {reason}): set CTD_API_KEY") from None
        if status == 404:
            raise FileNotFoundError(
                f"{self.base_url} has no model {self.model!r}, or no completions ({reason}): correct model or base_url"
            ) from None
        if status is None or status in (408, 409, 429) or status >= 500:
            raise ConnectionError(f"{self.base_url} fails ({tries}, {status}: {reason}): try again later") from None
        raise ValueError(f"{self.base_url} refuses what it is asked ({status}: {reason})") from None


def _beyond_openai(sampling: Sampling) -> dict[str, float]:
    """The settings that vLLM and llama.cpp take beside OpenAI's, by the names of both."""
    penalty = sampling.repetition_penalty
    settings = {"top_k": sampling.top_k, "repetition_penalty": penalty, "repeat_penalty": penalty}
    return {name: value for name, value in settings.items() if value not in (0, 1)}


def _with_path(base_url: str) -> str:
    """The address with the path /v1 where it has none."""
    address = urlsplit(base_url)
    if address.scheme not in ("http", "https") or not address.hostname or "@" in address.netloc:
        shown = re.sub(r"//[^/]*@", "//...@", base_url)
        raise ValueError(f"base_url must be like http://localhost:8000/v1, without a user in it, got {shown!r}")
    return base_url.rstrip("/") if address.path.strip("/") else base_url.rstrip("/") + "/v1"


def _completion(answer: Any) -> Completion:
    choice = answer.choices[0]
    text = choice.text.encode("utf-8", "replace").decode()
    finished = choice.finish_reason == "stop"
    pieces, logprobs = _pieces(choice.logprobs.model_dump() if choice.logprobs else {})
    spans = _spans(text, pieces)
    if None in logprobs or spans is None or len(spans) > len(logprobs):
        n_tokens = answer.usage.completion_tokens if answer.usage else 0
        return Completion(text, finished, n_tokens)
    return Completion(text, finished, len(spans), spans, tuple(map(float, logprobs[: len(spans)])))


def _pieces(logprobs: dict[str, Any]) -> tuple[list[bytes], list[Any]]:
    """Each token's bytes and log-probability, of OpenAI's form for completions or, as llama.cpp has it, for chats."""
    if content := logprobs.get("content"):
        whole = [bytes(token["bytes"]) if token.get("bytes") else token["token"].encode() for token in content]
        return whole, [token["logprob"] for token in content]
    return [token.encode() for token in logprobs.get("tokens") or []], list(logprobs.get("token_logprobs") or [])


def _spans(text: str, pieces: Sequence[bytes]) -> tuple[tuple[int, int], ...] | None:
    """The characters start .. end - 1 that each piece is a part of, as far as the text goes; None if they differ."""
    raw = text.encode()
    if not b"".join(pieces).startswith(raw):
        return None
    character = [place for place, char in enumerate(text) for _ in char.encode()]  # of each byte
    spans, at = [], 0
    for piece in pieces:
        if at >= len(raw):
            break
        end = min(at + len(piece), len(raw))
        spans.append((character[at], character[end - 1] + 1 if end > at else character[at]))
        at = end
    return tuple(spans)
