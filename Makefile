# make demo   show what the trained networks that come with the project find of two diseases, then
#             train new ones until they find one of them, and put the two side by side
# make test   run the tests
# make lint   check style and formatting
# Both set up the environment in .venv on first use. PYTHON=python3.12 picks another Python.

PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
DEMO = demo

# Small enough for a laptop: 64 x 64 pixels, and four epochs of the recommended recipe, which is not
# asked for the kind of change in the time that is saved. The networks that come along know
# ellipses that shrink and fluid in them; the new ones learn of the fluid, which is found soonest.
DEMO_SIZES = --image-size 64 --validate 50 --test 100
DEMO_TRAINING = --recipe fast --translation layer --epochs 4 --image-size 64
DEMO_MINUTES = 6

.PHONY: demo greeting test lint format clean
.DELETE_ON_ERROR:

demo: greeting $(VENV)/installed $(DEMO)/both/dataset.json $(DEMO)/fluid/dataset.json
	$(RUN) main.py --mode test --dataset-path $(DEMO)/both --save-dir save_nets/pretrained --results-dir $(DEMO)/pretrained-results --visdom off
	@echo "Open $(DEMO)/pretrained-results/report.html. Now new networks are trained, on one of the two diseases: fluid."
	$(RUN) main.py --resume auto --dataset-path $(DEMO)/fluid --save-dir $(DEMO)/fluid-run $(DEMO_TRAINING)
	$(RUN) main.py --mode test --dataset-path $(DEMO)/fluid --save-dir $(DEMO)/fluid-run --results-dir $(DEMO)/results --visdom off
	@echo "The networks that come with the project, on both diseases, and the new ones, on fluid:"
	@$(RUN) -m descargan.comparison $(DEMO)/pretrained-results $(DEMO)/results
	@echo "Open $(DEMO)/results/report.html. The dashboard ended with the training; to see it again:"
	@echo "    $(RUN) -m descargan.dashboard --replay $(DEMO)/fluid-run"

greeting:
	@echo "The demo takes about $(DEMO_MINUTES) minutes on two cores, the set-up included."

$(DEMO)/both/dataset.json: | $(VENV)/installed
	$(RUN) create_synthetic_dataset.py --disease both --output $(DEMO)/both $(DEMO_SIZES) --train 50

$(DEMO)/fluid/dataset.json: | $(VENV)/installed
	$(RUN) create_synthetic_dataset.py --disease opacity --output $(DEMO)/fluid $(DEMO_SIZES)

# In the order of their names, as files of few tests, which come last otherwise, are the slow ones.
test: $(VENV)/installed-tests
	$(RUN) -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

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
