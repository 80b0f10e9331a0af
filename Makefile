# pipestep. `make help` lists what there is to make.
#
# Site settings go into config.mk, or on the command line: CC, MPICC, CFLAGS, PREFIX, DESTDIR, NP.
# MODE=release|debug|asan picks flags and build folder; V=1 shows the commands.

-include config.mk

MODE ?= release
V ?= 0
PREFIX ?= /usr/local
MPICC ?= mpicc
PKG_CONFIG ?= pkg-config
ifeq ($(origin CC),default)
CC := gcc
endif
# The MPI wrappers take the compiler from these.
export OMPI_CC = $(CC)
export MPICH_CC = $(CC)

FLAVOUR := $(notdir $(firstword $(CC)))$(if $(filter mpicc,$(MPICC)),,-$(notdir $(MPICC)))
B := build/$(MODE)$(if $(filter gcc,$(FLAVOUR)),,-$(FLAVOUR))
Q := $(if $(filter 0,$(V)),@,)

HDF5 := $(firstword $(foreach p,hdf5-serial hdf5,$(shell $(PKG_CONFIG) --exists $(p) 2>/dev/null && echo $(p))))
PACKAGES := $(HDF5) openblas jansson libpcre2-8 libutf8proc libxxhash hwloc
WARN := -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wvla -Wundef -Wstrict-prototypes \
        -Wmissing-prototypes -Wwrite-strings -Wcast-qual $(if $(WERROR),-Werror)
OPT_release := -O3 -g
OPT_debug := -O0 -g
OPT_asan := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
REVISION := $(shell git describe --always --dirty 2>/dev/null || echo unknown)

BASE_FLAGS = -std=c17 -D_GNU_SOURCE -ffp-contract=off -fno-math-errno $(OPT_$(MODE)) $(WARN) -Iinclude -Isrc \
             $(shell $(PKG_CONFIG) --cflags $(PACKAGES)) -MMD -MP
LIBS = $(shell $(PKG_CONFIG) --libs $(PACKAGES)) -lpthread -lm

# Kernels are compiled once for each instruction set.
ISAS := portable $(if $(filter x86_64,$(shell uname -m)),avx2 avx512)
ISA_FLAGS_portable :=
ISA_FLAGS_avx2 := -mavx2 -mfma -mf16c
ISA_FLAGS_avx512 := $(ISA_FLAGS_avx2) -mavx512f -mavx512vl -mavx512dq -mavx512bw -mprefer-vector-width=512

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

$(B)/obj/%.o: src/%.c | $(B)/flags
	@mkdir -p $(@D)
	@echo "  compile $<"
	$(Q)$(MPICC) $(BASE_FLAGS) $(CFLAGS) -c $< -o $@

# Only this object knows the revision.
$(B)/obj/tool/version.o: BASE_FLAGS += -DPS_REVISION='"$(REVISION)"'
$(B)/obj/tool/version.o: $(B)/revision

define ISA_RULE
$(B)/obj/math/isa-$(1)/%.o: src/math/isa/%.c | $(B)/flags
	@mkdir -p $$(@D)
	@echo "  compile $$< ($(1))"
	$$(Q)$$(MPICC) $$(BASE_FLAGS) $$(CFLAGS) $$(ISA_FLAGS_$(1)) -DPS_ISA_NAME=$(1) -c $$< -o $$@
endef
$(foreach i,$(ISAS),$(eval $(call ISA_RULE,$(i))))

$(B)/flags:
	@mkdir -p $(B)
	@touch $@

$(B)/revision: FORCE
	@mkdir -p $(B)
	@echo '$(REVISION)' | cmp -s - $@ || echo '$(REVISION)' > $@

-include $(wildcard $(B)/obj/*/*.d $(B)/obj/*/*/*.d)

.PHONY: clean
## clean: removes build/
clean:
	rm -rf build

.PHONY: help
## help: this list
help:
	@sed -n 's/^## \([a-z-]*\): */  \1\t/p' $(MAKEFILE_LIST) | expand -t 18
