# make demo   make the data set, test the trained networks that come with the project, then train
#             new ones for an epoch and test them
# make test   run the tests
# make lint   check style and formatting
# Both set up the environment in .venv on first use. PYTHON=python3.12 picks another Python.

PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
DEMO = demo

# Small enough for a laptop: 64 x 64 pixels, less than half of the fast recipe.
DEMO_DATA = --image-size 64 --validate 50 --test 100
DEMO_TRAINING = --recipe fast --image-size 64 --epochs 5

.PHONY: demo test lint format clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed $(DEMO)/warp-set/dataset.json
	$(RUN) main.py --mode test --dataset-path $(DEMO)/warp-set --save-dir save_nets/pretrained --results-dir $(DEMO)/pretrained-results --visdom off
	@echo "Open $(DEMO)/pretrained-results/examples.png. Now new networks are trained."
	$(RUN) main.py --resume auto --dataset-path $(DEMO)/warp-set --save-dir $(DEMO)/run $(DEMO_TRAINING)
	$(RUN) main.py --mode test --dataset-path $(DEMO)/warp-set --save-dir $(DEMO)/run --results-dir $(DEMO)/results
	@echo "Open $(DEMO)/results/examples.png; to see the curves again: $(RUN) -m descargan.dashboard --replay $(DEMO)/run"

$(DEMO)/warp-set/dataset.json: | $(VENV)/installed
	$(RUN) create_synthetic_dataset.py --output $(DEMO)/warp-set $(DEMO_DATA)

test: $(VENV)/installed-tests
	$(RUN) -m pytest --numprocesses auto --dist loadfile

lint: $(VENV)/installed-tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/installed-tests
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# visdom 0.2.4 is a source release that builds with an old setuptools only.
$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet "setuptools<81" wheel
	$(RUN) -m pip install --quiet --no-build-isolation -r requirements.txt
	touch $@

$(VENV)/installed-tests: tests/requirements.txt $(VENV)/installed
	$(RUN) -m pip install --quiet --no-build-isolation -r tests/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) $(DEMO)
