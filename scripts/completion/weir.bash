# Completion of weir for bash. Written by "weir completion bash".
_weir()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path= w i
	local options= operands=

	for ((i = 1; i < COMP_CWORD; i++)); do
		w=${COMP_WORDS[i]}
		case $w in
		-*|sandbox|sb|help) continue ;;
		esac
		case "$path $w" in
		" create") path=" create"; break ;;
		" ls") path=" ls"; break ;;
		" show") path=" show"; break ;;
		" exec") path=" exec"; break ;;
		" run") path=" run"; break ;;
		" cp") path=" cp"; break ;;
		" egress") path=" egress"; continue ;;
		" egress get") path=" egress get"; break ;;
		" egress set") path=" egress set"; break ;;
		" egress add") path=" egress add"; break ;;
		" egress rm") path=" egress rm"; break ;;
		" egress explain") path=" egress explain"; break ;;
		" denials") path=" denials"; break ;;
		" pause") path=" pause"; break ;;
		" resume") path=" resume"; break ;;
		" fork") path=" fork"; break ;;
		" rm") path=" rm"; break ;;
		" net") path=" net"; continue ;;
		" net create") path=" net create"; break ;;
		" net ls") path=" net ls"; break ;;
		" net show") path=" net show"; break ;;
		" net rm") path=" net rm"; break ;;
		" net attach") path=" net attach"; break ;;
		" net detach") path=" net detach"; break ;;
		" net policy") path=" net policy"; break ;;
		" url") path=" url"; break ;;
		" ingress") path=" ingress"; continue ;;
		" ingress on") path=" ingress on"; break ;;
		" ingress off") path=" ingress off"; break ;;
		" ingress token") path=" ingress token"; break ;;
		" forward") path=" forward"; break ;;
		" rootfs") path=" rootfs"; continue ;;
		" rootfs ls") path=" rootfs ls"; break ;;
		" rootfs build") path=" rootfs build"; break ;;
		" rootfs pulls") path=" rootfs pulls"; break ;;
		" shapes") path=" shapes"; break ;;
		" key") path=" key"; continue ;;
		" key create") path=" key create"; break ;;
		" key ls") path=" key ls"; break ;;
		" key rm") path=" key rm"; break ;;
		" doctor") path=" doctor"; break ;;
		" version") path=" version"; break ;;
		" completion") path=" completion"; break ;;
		esac
		break
	done

	case $path in
	'') operands="create ls show exec run cp egress denials pause resume fork rm net url ingress forward rootfs shapes key doctor version completion sandbox sb help" ;;
	' create') options="--shape --name --rootfs --egress --env --disk --ssh-key --auto-pause --net --ingress --access --hold --ports" ;;
	' ls') options="--quiet --all" ;;
	' show') options="" operands=$(weir ls --quiet 2>/dev/null) ;;
	' exec') options="--env --interactive" operands=$(weir ls --quiet 2>/dev/null) ;;
	' run') options="--shape --name --rootfs --egress --env --disk --ssh-key --auto-pause --net --interactive --keep --quiet --ingress --access --hold --ports" ;;
	' cp') options="--quiet" operands=$(weir ls --quiet 2>/dev/null | sed 's|$|:/|') ;;
	' egress') operands="get set add rm explain" ;;
	' egress get') options="" operands=$(weir ls --quiet 2>/dev/null) ;;
	' egress set') options="" operands=$(weir ls --quiet 2>/dev/null) ;;
	' egress add') options="" operands=$(weir ls --quiet 2>/dev/null) ;;
	' egress rm') options="" operands=$(weir ls --quiet 2>/dev/null) ;;
	' egress explain') options="" operands=$(weir ls --quiet 2>/dev/null) ;;
	' denials') options="--follow --limit" operands=$(weir ls --quiet 2>/dev/null) ;;
	' pause') options="--no-wait" operands=$(weir ls --quiet 2>/dev/null) ;;
	' resume') options="--no-wait" operands=$(weir ls --quiet 2>/dev/null) ;;
	' fork') options="--egress --env --ssh-key --paused --files-only" operands=$(weir ls --quiet 2>/dev/null) ;;
	' rm') options="--quiet --no-wait" operands=$(weir ls --quiet 2>/dev/null) ;;
	' net') operands="create ls show rm attach detach policy" ;;
	' net create') options="" ;;
	' net ls') options="" ;;
	' net show') options="" ;;
	' net rm') options="" ;;
	' net attach') options="" operands=$(weir ls --quiet 2>/dev/null) ;;
	' net detach') options="" operands=$(weir ls --quiet 2>/dev/null) ;;
	' net policy') options="" ;;
	' url') options="" operands=$(weir ls --quiet 2>/dev/null) ;;
	' ingress') operands="on off token" ;;
	' ingress on') options="--access --hold --no-hold --ports --no-ports" operands=$(weir ls --quiet 2>/dev/null) ;;
	' ingress off') options="--access --hold --no-hold --ports --no-ports" operands=$(weir ls --quiet 2>/dev/null) ;;
	' ingress token') options="--name --expires" operands="create ls revoke" ;;
	' forward') options="" operands=$(weir ls --quiet 2>/dev/null) ;;
	' rootfs') operands="ls build pulls" ;;
	' rootfs ls') options="" ;;
	' rootfs build') options="" ;;
	' rootfs pulls') options="" ;;
	' shapes') options="" ;;
	' key') operands="create ls rm" ;;
	' key create') options="--admin" ;;
	' key ls') options="" ;;
	' key rm') options="" ;;
	' doctor') options="" ;;
	' version') options="" ;;
	' completion') options="" operands="bash zsh" ;;
	esac

	case $prev in
	--shape) operands=$(weir shapes 2>/dev/null | awk 'NR > 1 {print $1}') ;;
	--rootfs) operands=$(weir rootfs ls 2>/dev/null | awk 'NR > 1 {print $1}') ;;
	--ssh-key) operands= path=file ;;
	esac

	if [[ $cur == -* ]]; then
		COMPREPLY=($(compgen -W "$options --help --json --url" -- "$cur"))
	else
		COMPREPLY=($(compgen -W "$operands" -- "$cur"))
		case $path in
		' cp'|file) COMPREPLY+=($(compgen -f -- "$cur")) ;;
		esac
	fi
}
complete -o bashdefault -F _weir weir
