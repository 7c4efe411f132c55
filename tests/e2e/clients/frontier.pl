#!/usr/bin/perl
# A studio's script in Perl, with the library Frontier::RPC, which is as old as XML-RPC itself and
# knows neither <nil/> nor <i8>. Prints what it saw as one JSON object.
use strict;
use warnings;
use Frontier::Client;
use JSON::PP;

my $server = Frontier::Client->new(url => "$ARGV[0]/RPC2", encoding => 'UTF-8');
my %seen;

sub truth { return $_[0]->value ? 1 : 0 }

sub wait_for {
    my ($job) = @_;
    while (1) {
        my $status = $server->call('getJob', $job, ['status'])->{status};
        return $status if grep { $_ eq $status } qw(succeeded failed cancelled abandoned);
        select(undef, undef, undef, 0.05);
    }
}

$seen{ping} = truth($server->call('ping'));
my $child = { name => 'child', command => 'printf "\303\244\342\202\254 <&>"' };
$seen{ids}    = $server->call('newjob', { name => 'root', children => [$child] });
$seen{json}   = $server->call('newjob', $server->string('{"name": "from JSON"}'));
$seen{status} = wait_for($seen{ids}[0]);
$seen{job}    = $server->call('getJob', $seen{ids}[0], ['name', 'children', 'progress']);
$seen{output} = $server->call('getJobOutput', $seen{ids}[1]);
$seen{time}   = $server->call('getJob', $seen{ids}[0], ['queueTime'])->{queueTime}->value;
$seen{labels} = [map { $_->{label} } @{ $server->call('getClients', [1], ['label']) }];
eval { $server->call('makeCoffee') };
$seen{fault} = "$@";
eval { $server->call('cancelJobs', $seen{ids}) };
$seen{none} = "$@";

print JSON::PP->new->utf8->canonical->encode(\%seen), "\n";
