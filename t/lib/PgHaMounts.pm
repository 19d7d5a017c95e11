# SPDX-License-Identifier: PostgreSQL
#
# Mounts of a test's own, where root may make them: `use PgHaMounts` before PgHaCluster starts the test file once more in a
# mount namespace, and removes the directory that was mounted in when it has passed.  Elsewhere the file runs as it is.
package PgHaMounts;

use strict;
use warnings;
use File::Path qw(remove_tree);
use File::Temp qw(tempdir);

sub import {
    return if $> != 0 || $ENV{PG_HA_MOUNTS};
    my $base = tempdir('pg_ha-m-XXXXXX', DIR => $ENV{PG_HA_TMP} // $ENV{TMPDIR} // '/tmp');
    chown +(getpwnam 'postgres')[2, 3], $base;
    chmod 0755, $base;
    local @ENV{qw(PG_HA_MOUNTS PG_HA_TMP)} = (1, $base);
    my $status = system 'unshare', '--mount', '--propagation', 'private', $^X, $0;
    remove_tree($base) if $status == 0;
    exit($status >> 8 || $status & 127);
}

sub possible { return $ENV{PG_HA_MOUNTS}; }

# A small file system that belongs to the servers' user; as long as the test is root.
sub small_file_system {
    my ($path, $size) = @_;
    my ($uid, $gid) = (getpwnam 'postgres')[2, 3];
    mkdir $path or die "$path: $!\n";
    system('mount', '-t', 'tmpfs', '-o', "size=$size,mode=0700,uid=$uid,gid=$gid", 'pg_ha', $path) == 0 or die "mount $path\n";
}

1;
