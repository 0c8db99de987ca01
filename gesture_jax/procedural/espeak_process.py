"""Synthesises sentences with eSpeak NG, in a process of its own.

The library keeps random state from one sentence to the next, and offers no way to reset it. In a
new process, the same sentences always sound the same. `espeak.synthesise` starts this file as a
script; it reads JSON from its input, and writes JSON to its output.
"""

import base64
import ctypes
import json
import sys

import espeakng_loader

# Constants of speak_lib.h of eSpeak NG 1.52.
_RETRIEVE_AUDIO, _PHONEME_EVENTS, _IPA, _DO_NOT_EXIT = 1, 1, 2, 0x8000
_RATE, _PITCH, _RANGE = 1, 3, 4
_UTF8 = 1
_LAST_EVENT, _PHONEME = 0, 7


class _Id(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def main() -> None:
    """Reads {"seed", "voice", "rate", "pitch", "range", "texts"}, and writes one answer per text.

    An answer is {"rate_hz", "audio" (base64 of int16), "phones" (pairs of sample and IPA)}.
    """
    request = json.load(sys.stdin)
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    flags = _PHONEME_EVENTS | _IPA | _DO_NOT_EXIT
    path = str(espeakng_loader.get_data_path()).encode()
    rate_hz = library.espeak_Initialize(_RETRIEVE_AUDIO, 0, path, flags)
    library.espeak_ng_SetRandSeed(ctypes.c_long(request["seed"]))
    audio, phones = bytearray(), []

    def receive(samples, count, events):
        if count > 0:
            audio.extend(ctypes.string_at(samples, 2 * count))
        index = 0
        while events[index].type != _LAST_EVENT:
            event = events[index]
            if event.type == _PHONEME:
                # The name takes up to eight bytes, without a final zero if it takes all of them.
                name = bytes(event.id)[:8].split(b"\0")[0].decode("utf-8", "ignore")
                phones.append((event.sample, name))
            index += 1
        return 0

    callback = _Callback(receive)
    library.espeak_SetSynthCallback(callback)
    if rate_hz <= 0 or library.espeak_SetVoiceByName(request["voice"].encode()):
        sys.exit(f"eSpeak NG has no voice {request['voice']!r}")
    for parameter, name in ((_RATE, "rate"), (_PITCH, "pitch"), (_RANGE, "range")):
        library.espeak_SetParameter(parameter, int(request[name]), 0)
    answers = []
    for text in request["texts"]:
        audio.clear()
        phones.clear()
        content = text.encode()
        library.espeak_Synth(content, len(content) + 1, 0, 1, 0, _UTF8, None, None)
        library.espeak_Synchronize()
        encoded = base64.b64encode(audio).decode()
        answers.append({"rate_hz": rate_hz, "audio": encoded, "phones": list(phones)})
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
