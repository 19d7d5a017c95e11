// SPDX-License-Identifier: PostgreSQL
//
// systemd's readiness protocol (sd_notify): one datagram to the socket that NOTIFY_SOCKET names.
// Without that variable nothing happens.
#pragma once

namespace pg_ha {

void notify_systemd(const char *state); // "READY=1", "STOPPING=1"

} // namespace pg_ha
