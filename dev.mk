# Developer commands, beside what PGXS gives.  `make help` lists them.
.PHONY: archives unit sim planted format lint models help

archives: $(BUILD)/build.ninja
	cmake --build $(BUILD) --target pg_ha_core pg_ha_agent pg_ha_net rejoin cli

$(BUILD)/build.ninja:
	cmake -S . -B $(BUILD) -G Ninja

$(ARCHIVES) $(SCRIPTS_built): archives
$(shlib): $(ARCHIVES)
$(OBJS): | archives
-include $(OBJS:.o=.d)

unit: $(BUILD)/build.ninja ## unit and scenario tests; no server needed
	cmake --build $(BUILD)
	ctest --test-dir $(BUILD) --output-on-failure

SEEDS ?= 1000
sim: $(BUILD)/build.ninja ## simulate: make sim SEEDS=20000, or replay one with make sim SEED=7
	cmake --build $(BUILD) --target sim
	$(BUILD)/sim $(if $(SEED),--seed $(SEED) --verbose,--seeds $(SEEDS))

PLANTED_SEEDS ?= 100000
planted: $(BUILD)/build.ninja ## plants each known bug and shows how soon the simulator catches it
	cmake --build $(BUILD) --target pg_ha_core pg_ha_agent sim_planted
	scripts/check-planted $(BUILD)
	$(BUILD)/sim_planted --planted --seeds $(PLANTED_SEEDS)

# A second module, in which t/09* plants defects on real servers.  Nothing installs it.
PLANTED_OBJS = $(patsubst src/server/%.cpp,$(BUILD)/planted/%.o,$(wildcard src/server/*.cpp))
PLANTED_LINK = $(BUILD)/libpg_ha_net.a $(BUILD)/libpg_ha_planted.a $(filter-out $(ARCHIVES),$(SHLIB_LINK))
.PHONY: planted-module
planted-module: archives ## build/planted/pg_ha.so, the module of the negative controls
	cmake --build $(BUILD) --target pg_ha_planted
	$(MAKE) $(BUILD)/planted/pg_ha.so

$(BUILD)/planted/pg_ha.so: $(PLANTED_OBJS) $(BUILD)/libpg_ha_planted.a $(BUILD)/libpg_ha_net.a
	$(CXX) $(CXXFLAGS) -shared -o $@ $(PLANTED_OBJS) $(LDFLAGS) $(PLANTED_LINK)

$(BUILD)/planted/%.o: src/server/%.cpp
	@mkdir -p $(@D)
	$(COMPILE.cc) -DPG_HA_PLANTED -o $@ $<
-include $(PLANTED_OBJS:.o=.d)

.PHONY: worlds
worlds: $(BUILD)/build.ninja ## every graph of broken links between up to 5 nodes
	cmake --build $(BUILD) --target worlds
	$(BUILD)/worlds

.PHONY: gossip-scale
gossip-scale: $(BUILD)/build.ninja ## cost and speed of gossip among 3 to 1,000 members
	cmake --build $(BUILD) --target gossip_scale
	$(BUILD)/gossip_scale

.PHONY: coverage
coverage: ## lines of core and agent that unit tests and SEEDS simulated clusters reach
	SEEDS=$(SEEDS) scripts/coverage

models: ## Spin models of the protocol and their planted bugs; QUICK=1 for small bounds
	BUILD=$(abspath $(BUILD)) scripts/models $(if $(QUICK),--quick)

PREFIX ?= /usr/local
.PHONY: witness install-witness
witness: $(BUILD)/build.ninja ## the voter without PostgreSQL; needs no PostgreSQL headers
	cmake --build $(BUILD) --target witness

install-witness: witness ## installs it with its systemd unit below PREFIX (/usr/local); DESTDIR works
	cmake -S . -B $(BUILD) -DCMAKE_INSTALL_PREFIX=$(PREFIX)
	DESTDIR=$(DESTDIR) cmake --install $(BUILD) --component witness --strip

.PHONY: check-traces
check-traces: $(BUILD)/build.ninja ## are runs of the simulator runs of the election model, and planted bugs not?
	cmake --build $(BUILD) --target sim sim_planted
	BUILD=$(abspath $(BUILD)) scripts/check-traces

format: ## clang-format over our sources
	clang-format -i $(wildcard src/*/*.[ch]pp src/*/tests/*.[ch]pp)

lint: $(BUILD)/build.ninja ## dependency rule, exported symbols
	scripts/check-dependencies
	if [ -e pg_ha.so ]; then scripts/check-exports pg_ha.so; fi

help:
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

.PHONY: bench-net
bench-net: $(BUILD)/build.ninja ## CPU of an idle node among 32 members; needs an idle machine
	cmake --build $(BUILD) --target bench_net
	$(BUILD)/bench_net

.PHONY: bench-failover
bench-failover: ## how long nobody can write when the primary is lost, and what is lost: ROUNDS=n
	BUILD=$(abspath $(BUILD)) scripts/bench-failover

# A library for tests and measurements of the fence; never installed.
FENCE_MODULE = $(BUILD)/fence_module.so
FENCE_OBJECTS = $(filter-out src/server/init.o, $(OBJS))
.PHONY: fence-module bench-fence
fence-module: $(FENCE_MODULE)
$(FENCE_MODULE): test/fence_module.cpp $(FENCE_OBJECTS) $(ARCHIVES)
	$(CXX) $(CXXFLAGS) $(CPPFLAGS) $(PG_CPPFLAGS) $(PG_CXXFLAGS) -MF $(BUILD)/fence_module.d -Isrc/server -fPIC -shared \
		-o $@ test/fence_module.cpp $(FENCE_OBJECTS) $(filter-out -Wl%,$(SHLIB_LINK))

bench-fence: ## nanoseconds that the fence costs one transaction, in a scratch server
	scripts/bench-fence

.PHONY: rejoin-sweep
rejoin-sweep: ## kills the server at 40 points of a rewind, kills and stops it at 20 of a clone; about 15 min
	PG_HA_KILL_POINTS=40 PG_HA_CLONE_POINTS=20 scripts/test --only build --tap 061_rejoin_killed.pl --tap 086_clone_interrupted.pl

.PHONY: rejoin-loops
rejoin-loops: ## 30 primaries in a row lose their term and come home; about 10 min
	PG_HA_REJOIN_LOOPS=30 scripts/test --only build --tap 079_demote_loops.pl
	@grep '^# loops ' $(BUILD)/log/test-tap.log

.PHONY: bench-rejoin
bench-rejoin: ## how long an old primary needs until it streams again; what a witness costs: ROUNDS=n MB=n
	BUILD=$(abspath $(BUILD)) scripts/bench-rejoin

.PHONY: bench-overhead
bench-overhead: ## nanoseconds of the fence; pgbench with and without pg_ha at the same ANY 1, ratio; needs an idle machine
	BUILD=$(abspath $(BUILD)) scripts/bench-overhead

.PHONY: postgres-suite
postgres-suite: ## PostgreSQL's own tests with and without pg_ha; SOURCE= its source tree; about 10 min
	BUILD=$(abspath $(BUILD)) scripts/postgres-suite --source "$(SOURCE)"

.PHONY: chaos
chaos: ## random faults on real servers: MINUTES=3 SEED=n RUNS=n NODES=3|5|2 (2: and a witness) SYNC=on|off
	BUILD=$(abspath $(BUILD)) $(if $(MINUTES),MINUTES=$(MINUTES)) $(if $(SEED),SEED=$(SEED)) $(if $(RUNS),RUNS=$(RUNS)) \
		$(if $(NODES),NODES=$(NODES)) $(if $(SYNC),SYNC=$(SYNC)) scripts/chaos
