"""Presidio's side of `pii`: python presidio.py DATA prints {"name": …, "found": [[{"entity", "start", "end"}]], "ms": …}.

With a spaCy model (`en_core_web_lg` or `en_core_web_sm`, where one is installed), else with its pattern recognisers alone.
"""

import importlib.util
import json
import sys
import time

import tldextract
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import SpacyNlpEngine

# The list of top-level domains that the package carries: nothing is fetched.
tldextract.extract = tldextract.TLDExtract(suffix_list_urls=())


class Blank(SpacyNlpEngine):
    """A pipeline that only splits words."""

    def __init__(self):
        super().__init__()
        import spacy

        self.nlp = {"en": spacy.blank("en")}


def engine():
    for model in ("en_core_web_lg", "en_core_web_sm"):
        if importlib.util.find_spec(model):
            own = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": model}])
            return AnalyzerEngine(nlp_engine=own), f"Presidio, {model}"
    return AnalyzerEngine(nlp_engine=Blank()), "Presidio, no model"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        texts = [entry["full_text"] for entry in json.load(file)]
    analyzer, name = engine()
    analyzer.analyze(text="warm up", language="en")
    begun = time.perf_counter()
    found = [analyzer.analyze(text=text, language="en") for text in texts]
    ms = (time.perf_counter() - begun) * 1e3 / max(len(texts), 1)
    places = [[{"entity": one.entity_type, "start": one.start, "end": one.end} for one in each] for each in found]
    print(json.dumps({"name": name, "found": places, "ms": ms}), flush=True)


if __name__ == "__main__":
    main()
