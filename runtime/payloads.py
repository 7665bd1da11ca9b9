"""Encryption of what travels through Temporal: inputs, results, summaries, details and failures, by AES-256-GCM."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import (
    ActivitySerializationContext,
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    PayloadCodec,
    SerializationContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)

from runtime.payload_keys import PayloadKeys

ENCODING = b"binary/encrypted"
KEY_ID = "encryption-key-id"
BOUND_TO = "encryption-bound-to"

_VERSION = b"tidemark/1"
_NONCE_BYTES = 12


class PayloadKeyMissing(RuntimeError):
    """A payload is encrypted with a key that this program was not given."""

    def __init__(self, key_id: str) -> None:
        """Name the key, and what to do."""
        super().__init__(
            f"What Temporal keeps here is encrypted with the key {key_id!r}, which this program does not have: "
            f"add that key to TIDEMARK_PAYLOAD_KEYS and start it again. Keep a key until the last run that it "
            f"encrypted is gone."
        )


class PayloadNotGenuine(RuntimeError):
    """An encrypted payload is not what was written, or not where it was written."""


class PayloadEncryption(PayloadCodec, WithSerializationContext):
    """Encrypts with the first key, reads with any; what is not encrypted is read as it is.

    A payload that is written for a workflow carries that workflow's id, which is authenticated with it: moved into
    another workflow it is refused. Without keys nothing is encrypted, and what is encrypted is refused with a sentence.
    """

    def __init__(self, keys: PayloadKeys, *, workflow_id: str = "") -> None:
        """With these keys; `workflow_id` is whose payloads they are, where that is known."""
        self._keys = keys
        self._ciphers: Mapping[str, AESGCM] = {name: AESGCM(key) for name, key in keys.by_id.items()}
        self._workflow_id = workflow_id

    def with_context(self, context: SerializationContext) -> Self:
        """The same, for one workflow and its activities."""
        if isinstance(context, WorkflowSerializationContext | ActivitySerializationContext):
            return type(self)(self._keys, workflow_id=context.workflow_id or "")
        return self

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt each, its metadata too."""
        if self._keys.writing is None:
            return list(payloads)
        return [self._encrypted(payload, self._keys.writing) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt what is encrypted. Raises PayloadKeyMissing and PayloadNotGenuine."""
        return [
            self._decrypted(payload) if payload.metadata.get("encoding") == ENCODING else payload
            for payload in payloads
        ]

    def _encrypted(self, payload: Payload, key_id: str) -> Payload:
        nonce = os.urandom(_NONCE_BYTES)
        name, bound_to = key_id.encode(), self._workflow_id.encode()
        sealed = self._ciphers[key_id].encrypt(nonce, payload.SerializeToString(), _bound(name, bound_to))
        metadata = {"encoding": ENCODING, KEY_ID: name, BOUND_TO: bound_to}
        return Payload(metadata=metadata, data=nonce + sealed)

    def _decrypted(self, payload: Payload) -> Payload:
        name, bound_to = payload.metadata.get(KEY_ID, b""), payload.metadata.get(BOUND_TO, b"")
        key_id = name.decode(errors="replace")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise PayloadKeyMissing(key_id)
        if not self._belongs_here(bound_to.decode(errors="replace")):
            msg = (
                f"What Temporal keeps here was encrypted for the workflow {bound_to.decode(errors='replace')!r}, not "
                f"for {self._workflow_id!r}: somebody has moved it. Nothing was done with it."
            )
            raise PayloadNotGenuine(msg)
        nonce, sealed = payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:]
        try:
            opened = cipher.decrypt(nonce, sealed, _bound(name, bound_to))
        except (InvalidTag, ValueError):
            msg = (
                f"What Temporal keeps here is not what was encrypted with the key {key_id!r}: it was changed, or "
                "TIDEMARK_PAYLOAD_KEYS gives another key that id. Nothing was done with it."
            )
            raise PayloadNotGenuine(msg) from None
        return Payload.FromString(opened)

    def _belongs_here(self, bound_to: str) -> bool:
        """A Schedule writes for the id that its runs' ids begin with; whoever starts by hand writes for none."""
        here = self._workflow_id
        return not here or not bound_to or here == bound_to or here.startswith(f"{bound_to}-")


def converter_of(keys: PayloadKeys) -> DataConverter:
    """How every client and worker turns values into payloads; with keys, failures' words are encrypted too."""
    codec = PayloadEncryption(keys)
    if keys.writing is None:
        return dataclasses.replace(pydantic_data_converter, payload_codec=codec)
    return dataclasses.replace(
        pydantic_data_converter,
        payload_codec=codec,
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )


def _bound(*parts: bytes) -> bytes:
    """What is authenticated beside the payload; lengths keep the parts apart."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in (_VERSION, *parts))
