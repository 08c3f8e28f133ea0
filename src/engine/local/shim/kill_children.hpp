#pragma once

namespace stargate::local {

/// Kills the children of this process until there are none and reaps them. To a subreaper (PR_SET_CHILD_SUBREAPER) come
/// theirs, in turn, so nothing that has begun beneath it is left. Only a child that we have not reaped can be killed by
/// its number without risk of meeting a stranger.
/// signals  a signalfd for SIGCHLD, to wait with; -1: it looks again after a short pause
void kill_children(int signals);

}  // namespace stargate::local
