# `make package`: a Debian package. The programs need libc alone; the shim lies beside the program that starts it.
set(home lib/stargate)
install(TARGETS stargate stargate-shim RUNTIME DESTINATION ${home})
install(CODE "file(MAKE_DIRECTORY \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/bin\")
              file(CREATE_LINK ../${home}/stargate \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/bin/stargate\" SYMBOLIC)")
install(FILES packaging/stargate.service DESTINATION lib/systemd/system)
install(DIRECTORY clients/python/stargate DESTINATION lib/python3/dist-packages PATTERN __pycache__ EXCLUDE)
install(FILES README.md CHANGELOG.md packaging/copyright DESTINATION share/doc/stargate)
install(DIRECTORY docs/ DESTINATION share/doc/stargate/docs FILES_MATCHING PATTERN *.md PATTERN bench EXCLUDE)
install(DIRECTORY examples DESTINATION share/doc/stargate)

# Rises with each commit, so that a newer package upgrades an older one.
execute_process(COMMAND git -C ${CMAKE_SOURCE_DIR} rev-list --count HEAD OUTPUT_VARIABLE commits
                OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT commits)
  set(commits 0)
endif()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME stargate)
set(CPACK_PACKAGE_VERSION 0.1.${commits})
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_CONTACT "the Stargate authors <stargate@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "control plane of an AI compute platform")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "Training and inference share the GPUs of this machine by priority: jobs, gangs, elastic training,
services behind an OpenAI-compatible gateway, and a log that says why.")
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS passwd)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "iproute2, python3")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${CMAKE_SOURCE_DIR}/packaging/postinst ${CMAKE_SOURCE_DIR}/packaging/prerm
                                       ${CMAKE_SOURCE_DIR}/packaging/postrm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_OUTPUT_FILE_PREFIX ${CMAKE_BINARY_DIR})
include(CPack)
