# make, make install, make installcheck: as every PGXS extension.
# The module is src/server linked with the archives that CMake builds (core, agent, net), so server,
# simulator and tests run the same object code.
EXTENSION   = pg_ha
DATA        = pg_ha--1.0.sql
MODULE_big  = pg_ha
SCRIPTS_built = $(BUILD)/pg_ha_rejoin $(BUILD)/pg_hactl
OBJS        = $(patsubst %.cpp,%.o,$(wildcard src/server/*.cpp))
REGRESS     = $(patsubst sql/%.sql,%,$(wildcard sql/*.sql))
TAP_TESTS   = 1
override with_llvm = no

BUILD      ?= build
ARCHIVES    = $(BUILD)/libpg_ha_net.a $(BUILD)/libpg_ha_agent.a $(BUILD)/libpg_ha_core.a

PG_CPPFLAGS = -I$(BUILD)/include/net -I$(BUILD)/include/agent -I$(BUILD)/include/core
PG_CXXFLAGS = -std=c++20 -O2 -g -Wall -Wextra -Wno-register -Wno-unused-parameter -MMD -MP
SHLIB_LINK  = $(ARCHIVES) -lprotobuf-lite -lssl -lcrypto -lstdc++ -Wl,--version-script=src/server/exports.map

PG_CONFIG  ?= pg_config
PGXS       := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

include dev.mk
