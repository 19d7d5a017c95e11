// SPDX-License-Identifier: PostgreSQL
#include "recovery_parameters.hpp"

namespace pg_ha {

std::string why_cannot_follow(const RecoveryParameters &own, const RecoveryParameters &theirs) {
    std::string text;
    if (own == RecoveryParameters{})
        return text;
    for (std::size_t i = 0; i < own.size(); i++)
        if (own[i] < theirs[i])
            text += (text.empty() ? "" : ", ") + std::string(recovery_parameter_names[i]) + " is " + std::to_string(own[i]) +
                    " here and " + std::to_string(theirs[i]) + " there";
    return text;
}

} // namespace pg_ha
