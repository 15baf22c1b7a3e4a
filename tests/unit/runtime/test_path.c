/* runtime/path.h: nothing below a root leads out of it. */
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "base/fd.h"
#include "runtime/path.h"
#include "../unit.h"

static char top[] = "/tmp/weir-path-XXXXXX";
static int root;

static int setup(void **state)
{
	auto_fd int inner = -EBADF;

	if (!mkdtemp(top))
		return -1;
	(void)state;
	root = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (mkdirat(root, "etc", 0755) < 0 || mkdirat(root, "real", 0755) < 0 ||
		symlinkat("/etc", root, "out") < 0 || symlinkat("../../../etc", root, "up") < 0 ||
		symlinkat("/real", root, "link") < 0 || symlinkat("/proc/self/cwd", root, "magic") < 0)
		return -1;
	inner = openat(root, "etc/inner", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	return inner < 0 ? -1 : 0;
}

static int drop(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	(void)state;
	close(root);
	return nftw(top, drop, 16, FTW_DEPTH | FTW_PHYS);
}

static ino_t inode(int dirfd, const char *path)
{
	struct stat st;

	return fstatat(dirfd, path, &st, 0) < 0 ? 0 : st.st_ino;
}

/* Absolute and climbing links resolve as if the root were "/". */
static void links_stay_inside(void **state)
{
	static const char *const ways[] = { "etc", "/etc", "out", "up", "../../etc", "out/../up" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		auto_fd int fd = path_in_root(root, ways[i], O_PATH | O_DIRECTORY, 0);

		assert_true(fd >= 0);
		assert_true(inode(fd, ".") == inode(root, "etc"));
	}
	assert_int_equal(path_in_root(root, "/passwd", O_RDONLY, 0), -ENOENT);
}

static void magic_links_are_refused(void **state)
{
	auto_fd int proc = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	assert_int_equal(path_in_root(proc, "cwd", O_PATH, 0), -ELOOP);
	assert_int_equal(path_in_root(proc, "fd/0", O_RDONLY, 0), -ELOOP);
	assert_true(path_in_root(root, "magic", O_PATH, 0) < 0);
}

static void mount_paths_take_no_link(void **state)
{
	auto_fd int fd = path_on_mount(root, "etc/inner");
	auto_fd int slash = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(path_on_mount(root, "link"), -ELOOP);
	assert_int_equal(path_on_mount(root, "../etc"), -EXDEV);
	assert_int_equal(path_on_mount(slash, "proc/version"), -EXDEV); /* another mount */
}

static void directories_are_directories(void **state)
{
	auto_fd int made = path_dir_in_root(root, "new", 0755);
	auto_fd int there = path_dir_in_root(root, "real", 0755);

	(void)state;
	assert_true(made >= 0 && there >= 0);
	assert_int_equal(path_dir_in_root(root, "link", 0755), -ENOTDIR);
	assert_int_equal(path_dir_in_root(root, "etc/inner", 0755), -ENOTDIR);
}

static void replacing_writes_no_link_target(void **state)
{
	auto_buf struct buf text = BUF_MAX(64);
	auto_fd int victim = openat(root, "real/victim", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	struct stat st;

	(void)state;
	assert_true(victim >= 0);
	assert_int_equal(symlinkat("/real/victim", root, "etc/resolv.conf"), 0);
	assert_int_equal(path_replace_in_root(root, "out", "resolv.conf", STR("ours")), 0);
	assert_int_equal(fstat(victim, &st), 0);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(file_read(root, "etc/resolv.conf", &text), 0);
	assert_true(str_eq_c(buf_str(&text), "ours"));
	assert_int_equal(fstatat(root, "etc/resolv.conf", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISREG(st.st_mode));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(links_stay_inside),
		cmocka_unit_test(magic_links_are_refused),
		cmocka_unit_test(mount_paths_take_no_link),
		cmocka_unit_test(directories_are_directories),
		cmocka_unit_test(replacing_writes_no_link_target),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
