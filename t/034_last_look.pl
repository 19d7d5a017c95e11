# SPDX-License-Identifier: PostgreSQL
#
# Commits wait for standbys that do not answer, and everything is tried to have them answered all the same:
# files that empty or change the list of standbys, a list emptied behind everybody's back, cancelled
# PREPAREs.  Nobody is told anything that the quorum does not have.  A server without pg_ha shows that
# the same means work there.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaLedger;
use PgHaSession;
use Test::More;
use Time::HiRes qw(time sleep);

my $cluster = PgHaCluster->new(files => ['fence_module.so'], settings => "max_prepared_transactions = 10\npg_ha.min_sync_standbys = 1\n");
my $module = $cluster->dir . '/fence_module.so';
my $empty_list = "CREATE FUNCTION fence_empty_standby_names() RETURNS void AS '$module' LANGUAGE C";
my $waits = q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'};

# ---- the control: PostgreSQL alone --------------------------------------------------------------------------

$cluster->init('rome');
PgHaCluster::append($cluster->data('rome') . '/postgresql.conf', "shared_preload_libraries = ''\n");
$cluster->start('rome');
$cluster->sql('rome', $_) for 'CREATE TABLE plain (id int)', $empty_list;
my $rome = 'port=' . $cluster->node('rome')->{port} . ' user=postgres';
my @files = map { '/' . $_ } qw(postgresql.auto.conf postgresql.conf);
my @means = (
    [ 'an emptied file', sub {
        PgHaCluster::append($cluster->data($_[0]) . $files[0], "synchronous_standby_names = ''\n");
        kill 'HUP', $cluster->postmaster($_[0]);
    } ],
    [ 'an emptied list', sub { $cluster->sql($_[0], 'SELECT fence_empty_standby_names()'); } ],
    [ 'a cancelled wait', sub {
        $cluster->sql($_[0], q{SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'});
    } ],
);
for my $means (@means) {
    my ($what, $do) = @$means;
    $cluster->sql('rome', q{ALTER SYSTEM SET synchronous_standby_names = '*'});
    $cluster->sql('rome', 'SELECT pg_reload_conf()');
    $cluster->poll('rome', 'SHOW synchronous_standby_names', '*', 'without pg_ha');
    my $session = PgHaSession->new($cluster, $rome);
    $session->begin(q{INSERT INTO plain VALUES (1) RETURNING 'inserted'});
    # The checkpointer may not have read the list yet; then nobody waits.
    next if defined $session->answer(0.3) && ok(1, "$what: too early to wait");
    $cluster->poll('rome', $waits, 't', 'a commit waits');
    $do->('rome');
    like($session->answer // '', qr/inserted/, "and $what has it answered");
    $session->leave;
}
$cluster->stop('rome', 'immediate');
PgHaCluster::remove_tree($cluster->data('rome'));

# ---- with pg_ha -----------------------------------------------------------------------------------------------

$cluster->start_all;
$cluster->sql('london', $_) for $empty_list, 'CREATE EXTENSION pg_walinspect',
    "CREATE FUNCTION fence_record_end(pg_lsn) RETURNS pg_lsn AS '$module' LANGUAGE C STRICT";

# The length that PREPARE is judged by: every record's end, those that cross pages and segments included.
my $from = $cluster->sql('london', 'SELECT pg_current_wal_insert_lsn()');
$cluster->sql('london', q{CREATE TABLE wide AS SELECT repeat(md5(i::text), 60) AS t FROM generate_series(1, 20000) AS i});
$cluster->sql('london', q{BEGIN; INSERT INTO ledger SELECT -i, 0 FROM generate_series(1, 100) AS i; PREPARE TRANSACTION 'first'});
$cluster->sql('london', qq{BEGIN; INSERT INTO wide SELECT 'x'; PREPARE TRANSACTION '$_'}) for qw(second third);
my $ends = $cluster->sql('london', "SELECT count(*), count(*) FILTER (WHERE fence_record_end(start_lsn) <> end_lsn),"
    . " count(*) FILTER (WHERE (start_lsn - '0/0') % 16777216 > (end_lsn - '0/0') % 16777216),"
    . " count(*) FILTER (WHERE record_length > 8192)"
    . " FROM pg_get_wal_records_info('$from', pg_current_wal_flush_lsn()) WHERE resource_manager <> 'XLOG' OR record_type <> 'SWITCH'");
like($ends, qr/^\d{4,}\|0\|[1-9]\d*\|/, "the ends of all records are found (records|wrong|across segments|longer than a page: $ends)");

my $ledger = PgHaLedger->new($cluster, sessions => 4, pipelined => 2);
$ledger->start;
$ledger->wait(200, 'before the standbys fall silent');
my @silent = map { $cluster->process($_, 'walreceiver') } qw(paris rome);
kill('STOP', @silent) == 2 or die "cannot stop the walreceivers: $!";
$cluster->poll('london', $waits, 't', 'commits wait');
my $told = $ledger->acknowledged;

sub edit {
    my ($file, $value) = @_;
    my $path = $cluster->data('london') . $file;
    my $size = $cluster->log_size('london');
    open my $in, '<', $path or die "$path: $!";
    my $before = do { local $/; <$in> };
    PgHaCluster::append($path, "synchronous_standby_names = '$value'\n") if defined $value;
    PgHaCluster::write_file($path, $before =~ s/^synchronous_standby_names.*\n//mgr) unless defined $value;
    kill 'HUP', $cluster->postmaster('london');
    $cluster->wait_log('london', qr/LOG:  invalid value for parameter "synchronous_standby_names"/, 'the file is refused', $size)
        if $file eq $files[0];
    # Not the list of before: of silent standbys as many leave it as min_sync_standbys allows.
    $cluster->poll('london', q{SELECT count(*) FROM pg_file_settings WHERE name = 'synchronous_standby_names' AND applied}
        . q{ AND setting = current_setting(name) AND setting LIKE 'ANY 1 (%"london"%'}, '1', 'and a recorded list is put back') if $file eq $files[0];
}
edit($files[0], $_) for '', '*', 'ANY 1 (paris)', 'FIRST 1 (nobody)', undef;
edit($files[1], '');
like($cluster->sql('london', 'SHOW synchronous_standby_names'), qr/^ANY 1 \(.*"london"/, 'no process took one of the values');
is($cluster->sql('london', q{SET force_parallel_mode = on; SELECT count(*) FROM wide}), 20000, 'parallel workers start');

# PREPARE.
my $london = 'port=' . $cluster->node('london')->{port} . ' user=postgres';
for my $function (qw(pg_cancel_backend pg_terminate_backend)) {
    my $session = PgHaSession->new($cluster, $london);
    $session->ask(q{SET application_name = 'preparing'; BEGIN; INSERT INTO wide SELECT 'x'});
    $session->begin(qq{PREPARE TRANSACTION '$function'\\; SELECT 'prepared'});
    $cluster->poll('london', q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'preparing'},
        '1', 'PREPARE TRANSACTION waits');
    $cluster->sql('london', qq{SELECT $function(pid) FROM pg_stat_activity WHERE application_name = 'preparing'});
    unlike($session->answer // '', qr/^prepared/m, "and is not answered after $function()");
    $session->leave;
}

for my $statement ("COMMIT PREPARED 'first'", "ROLLBACK PREPARED 'second'") {
    my $session = PgHaSession->new($cluster, $london);
    $session->ask(q{SET application_name = 'finishing'});
    $session->begin($statement);
    $cluster->poll('london', q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'finishing'},
        '1', "$statement waits");
    $cluster->sql('london', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'finishing'});
    like($session->answer // '', qr/server closed the connection/, 'and is not answered when it is cancelled');
    $session->leave;
}

# A client that cancels by itself.
my $impatient = PgHaSession->new($cluster, $london);
$impatient->ask(q{SET application_name = 'impatient'});
$impatient->begin(q{INSERT INTO wide VALUES ('y') RETURNING 'inserted'});
$cluster->poll('london', q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'impatient'},
    '1', 'a commit waits');
kill 'INT', $impatient->{pid};
unlike($impatient->answer // '', qr/^inserted/m, 'a client that cancels its own commit is not told that it was done');

# The list is empty, and nothing but the last look is left.
my $log = $cluster->log_size('london');
my $end = time + 1;
while (time < $end) { $means[1][1]->('london'); sleep 0.02; }
like($cluster->log_text('london', $log), qr/closing the connection instead of answering COMMIT/, 'commits that nobody holds up are not answered');
unlike($cluster->log_text('london'), qr/PANIC|terminating any other active/, 'no process fell over it');
is($ledger->acknowledged, $told, 'no client was told anything');

$cluster->kill_everything('london');
kill 'CONT', @silent;
my $new = $cluster->wait_primary(qw(paris rome));
$ledger->wait(200, "from $new", $new);
is($cluster->sql($new, q{SELECT count(*) FROM pg_prepared_xacts WHERE gid = 'third'}), '1', 'what was prepared before is there');
$ledger->verify($new);
done_testing();
