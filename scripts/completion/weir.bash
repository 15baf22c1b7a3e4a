# Completion of weir for bash. Written by "weir completion bash".
_weir()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path= found= w i
	local options= words= kinds= kind at=0 # of the operand that is being written

	for ((i = 1; i < COMP_CWORD; i++)); do
		w=${COMP_WORDS[i]}
		case $w in
		--url|--shape|--name|-n|--rootfs|--egress|-e|--env|--disk|--ssh-key|--auto-pause|--net|--limit|--access|--expires)
			((i++))
			continue ;;
		-*) continue ;;
		sandbox|sb|help) [[ -n $path ]] || continue ;;
		esac
		if [[ -n $found ]]; then
			((at++))
			continue
		fi
		case "$path $w" in
		" create") path=" create" found=1 ;;
		" ls") path=" ls" found=1 ;;
		" show") path=" show" found=1 ;;
		" exec") path=" exec" found=1 ;;
		" run") path=" run" found=1 ;;
		" cp") path=" cp" found=1 ;;
		" egress") path=" egress" ;;
		" egress get") path=" egress get" found=1 ;;
		" egress set") path=" egress set" found=1 ;;
		" egress add") path=" egress add" found=1 ;;
		" egress rm") path=" egress rm" found=1 ;;
		" egress explain") path=" egress explain" found=1 ;;
		" denials") path=" denials" found=1 ;;
		" pause") path=" pause" found=1 ;;
		" resume") path=" resume" found=1 ;;
		" fork") path=" fork" found=1 ;;
		" rm") path=" rm" found=1 ;;
		" net") path=" net" ;;
		" net create") path=" net create" found=1 ;;
		" net ls") path=" net ls" found=1 ;;
		" net show") path=" net show" found=1 ;;
		" net rm") path=" net rm" found=1 ;;
		" net attach") path=" net attach" found=1 ;;
		" net detach") path=" net detach" found=1 ;;
		" net policy") path=" net policy" found=1 ;;
		" url") path=" url" found=1 ;;
		" ingress") path=" ingress" ;;
		" ingress on") path=" ingress on" found=1 ;;
		" ingress off") path=" ingress off" found=1 ;;
		" ingress token") path=" ingress token" found=1 ;;
		" forward") path=" forward" found=1 ;;
		" rootfs") path=" rootfs" ;;
		" rootfs ls") path=" rootfs ls" found=1 ;;
		" rootfs build") path=" rootfs build" found=1 ;;
		" rootfs pulls") path=" rootfs pulls" found=1 ;;
		" shapes") path=" shapes" found=1 ;;
		" key") path=" key" ;;
		" key create") path=" key create" found=1 ;;
		" key ls") path=" key ls" found=1 ;;
		" key rm") path=" key rm" found=1 ;;
		" doctor") path=" doctor" found=1 ;;
		" version") path=" version" found=1 ;;
		" completion") path=" completion" found=1 ;;
		*) return ;;
		esac
	done

	case $path in
	'') kinds=w words="create ls show exec run cp egress denials pause resume fork rm net url ingress forward rootfs shapes key doctor version completion sandbox sb help" ;;
	' create') options="--shape --name --rootfs --egress --env --disk --ssh-key --auto-pause --net --ingress --access --hold --ports" ;;
	' ls') options="--quiet --all" ;;
	' show') options="" kinds=s ;;
	' exec') options="--env --interactive" kinds=s. ;;
	' run') options="--shape --name --rootfs --egress --env --disk --ssh-key --auto-pause --net --interactive --keep --quiet --ingress --access --hold --ports" ;;
	' cp') options="--quiet" kinds=f ;;
	' egress') kinds=w words="get set add rm explain" ;;
	' egress get') options="" kinds=s ;;
	' egress set') options="" kinds=s. ;;
	' egress add') options="" kinds=s. ;;
	' egress rm') options="" kinds=s. ;;
	' egress explain') options="" kinds=s. ;;
	' denials') options="--follow --limit" kinds=s ;;
	' pause') options="--no-wait" kinds=s ;;
	' resume') options="--no-wait" kinds=s ;;
	' fork') options="--egress --env --ssh-key --paused --files-only" kinds=s ;;
	' rm') options="--quiet --no-wait" kinds=s ;;
	' net') kinds=w words="create ls show rm attach detach policy" ;;
	' net create') options="" ;;
	' net ls') options="" ;;
	' net show') options="" kinds=n ;;
	' net rm') options="" kinds=n ;;
	' net attach') options="" kinds=sn ;;
	' net detach') options="" kinds=sn ;;
	' net policy') options="" kinds=n. ;;
	' url') options="" kinds=s. ;;
	' ingress') kinds=w words="on off token" ;;
	' ingress on') options="--access --hold --no-hold --ports --no-ports" kinds=s ;;
	' ingress off') options="--access --hold --no-hold --ports --no-ports" kinds=s ;;
	' ingress token') options="--name --expires" kinds=ws. words="create ls revoke" ;;
	' forward') options="" kinds=s. ;;
	' rootfs') kinds=w words="ls build pulls" ;;
	' rootfs ls') options="" ;;
	' rootfs build') options="" ;;
	' rootfs pulls') options="" ;;
	' shapes') options="" ;;
	' key') kinds=w words="create ls rm" ;;
	' key create') options="--admin" ;;
	' key ls') options="" ;;
	' key rm') options="" ;;
	' doctor') options="" ;;
	' version') options="" ;;
	' completion') options="" kinds=w words="bash zsh" ;;
	esac

	kind=${kinds:at:1}
	[[ -n $kind || -z $kinds ]] || kind=${kinds: -1}
	case $prev in
	--shape) kind=w words=$(weir shapes 2>/dev/null | awk 'NR > 1 {print $1}') ;;
	--rootfs) kind=w words=$(weir rootfs ls 2>/dev/null | awk 'NR > 1 {print $1}') ;;
	--access) kind=w words="open token" ;;
	--net) kind=n ;;
	--ssh-key) kind=F ;;
	--url|--shape|--name|-n|--rootfs|--egress|-e|--env|--disk|--ssh-key|--auto-pause|--net|--limit|--access|--expires) kind= ;;
	esac
	if [[ $cur == -* ]]; then
		words="$options --help --json --url" kind=w
	fi
	case $kind in
	s) words=$(weir ls --quiet 2>/dev/null) ;;
	f) words=$(weir ls --quiet 2>/dev/null | sed 's|$|:/|') ;;
	n) words=$(weir net ls 2>/dev/null | awk 'NR > 1 {print $1}') ;;
	w) ;;
	*) words= ;;
	esac
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
	case $kind in
	f|F) COMPREPLY+=($(compgen -f -- "$cur")) ;;
	esac
}
complete -o bashdefault -F _weir weir
