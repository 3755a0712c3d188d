# `make demo` dubs the bundled example clip, `make test` runs the tests. Both make their own virtual environment.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
CLIP   := justdub/examples/clip.mp4
PROMPT := The woman is speaking German, saying: "Der Soldat wartet im Park."

.PHONY: demo test clean

demo: $(VENV)/.installed
	@mkdir -p demo
	$(PY) infer.py --input $(CLIP) --prompt '$(PROMPT)' --adapter dub --output demo/dubbed.mp4
	$(PY) -m justdub show $(CLIP) demo/dubbed.mp4 --output demo/dubbed.png
	@echo "The dubbed clip is demo/dubbed.mp4, its record demo/dubbed.mp4.json; demo/dubbed.png shows it under the source $(CLIP)."

test: $(VENV)/.installed-test
	$(PY) -m ruff check .
	$(PY) -m pytest -n auto --dist loadfile

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q -e '.[test]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) demo build *.egg-info
