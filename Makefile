# make demo   make the data set, test the trained networks that come with the project, then train
#             new ones until they find the disease as well, and put the two side by side
# make test   run the tests
# make lint   check style and formatting
# Both set up the environment in .venv on first use. PYTHON=python3.12 picks another Python.

PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
DEMO = demo

# Small enough for a laptop: 64 x 64 pixels, few filters, and the recipe for a disease that moves
# tissue, as the demo's does: the recommended one, shortened, does not find it from every seed. Three
# epochs of 260 iterations are enough to find it, and leave the whole demo below ten minutes.
DEMO_DATA = --image-size 64 --train 1300 --validate 50 --test 100
DEMO_TRAINING = --recipe deformation --epochs 3 --image-size 64 --base-filters 16 --critic-filters 16
DEMO_MINUTES = 10

.PHONY: demo greeting test lint format clean
.DELETE_ON_ERROR:

demo: greeting $(VENV)/installed $(DEMO)/warp-set/dataset.json
	$(RUN) main.py --mode test --dataset-path $(DEMO)/warp-set --save-dir save_nets/pretrained --results-dir $(DEMO)/pretrained-results --visdom off
	@echo "Open $(DEMO)/pretrained-results/report.html. Now new networks are trained, for most of the $(DEMO_MINUTES) minutes."
	$(RUN) main.py --resume auto --dataset-path $(DEMO)/warp-set --save-dir $(DEMO)/run $(DEMO_TRAINING)
	$(RUN) main.py --mode test --dataset-path $(DEMO)/warp-set --save-dir $(DEMO)/run --results-dir $(DEMO)/results --visdom off
	@echo "The networks that come with the project, and the new ones:"
	@$(RUN) -m descargan.comparison $(DEMO)/pretrained-results $(DEMO)/results
	@echo "Open $(DEMO)/results/report.html. The dashboard ended with the training; to see it again:"
	@echo "    $(RUN) -m descargan.dashboard --replay $(DEMO)/run"

greeting:
	@echo "The demo takes about $(DEMO_MINUTES) minutes on two cores."

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
